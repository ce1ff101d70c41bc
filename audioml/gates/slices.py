"""On no part of the test set is the challenger worse than the champion by more than a stated amount."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from audioml.evaluation.slices import slice_columns
from audioml.gates._evidence import Evidence, Verdict
from audioml.params import Section

ADDED = ("ours", "ours_of", "theirs", "theirs_of")


class Params(Section):
    """How much, and on which parts."""

    max_loss: Annotated[float, Field(ge=0)] = 0.05
    """In the metric's own units."""
    min_clips: Annotated[int, Field(ge=1)] = 30
    """Parts with fewer are not judged: a clip or two would decide."""
    columns: list[str] | None = None
    """Columns of the manifest whose values are the parts, such as [speaker]; None takes all that the report shows."""


def check(params: Params, evidence: Evidence) -> Verdict:
    """Compare both versions' metric on each part."""
    if evidence.champion is None:
        return Verdict(True, "There is no champion to be compared with.")
    scores = evidence.read_scores()
    if scores is None:
        return Verdict(None, f"{evidence.primary} has no parts: {evidence.not_paired or 'it is one of all clips.'}")
    columns = slice_columns(scores.drop(columns=list(ADDED)), evidence.params.evaluate.max_slice_values)
    if params.columns is not None:
        if missing := [name for name in params.columns if name not in columns]:
            known = ", ".join(columns) or "none"
            return Verdict(False, f"There are no parts by {', '.join(missing)}; there are parts by: {known}.")
        columns = {name: columns[name] for name in params.columns}
    sign, losses = 1 if evidence.higher_is_better else -1, {}
    for name, values in columns.items():
        sums = scores.groupby(values.to_numpy())[list(ADDED)].sum()
        counts = values.value_counts()
        for value, row in sums[counts.reindex(sums.index) >= params.min_clips].iterrows():
            loss = sign * (row["theirs"] / row["theirs_of"] - row["ours"] / row["ours_of"])
            losses[f"{name} {value}"] = float(loss)
    if not losses:
        return Verdict(None, f"No part of the test set has {params.min_clips} clips.")
    worst = max(losses, key=lambda part: losses[part])
    said = (
        f"Of {len(losses)} parts with {params.min_clips} clips or more, {worst} loses most, {losses[worst]:+.4f} of "
        f"{evidence.primary}; at most {params.max_loss:g} is asked for."
    )
    return Verdict(losses[worst] <= params.max_loss, said, {"largest_loss": losses[worst]})
