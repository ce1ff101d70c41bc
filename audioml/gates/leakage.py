"""Nothing that was learned from stands in the test set: no group, no recording and no clip is in two splits."""

from __future__ import annotations

import pandas as pd

from audioml.gates._evidence import Evidence, Verdict
from audioml.params import Section
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits


class Params(Section):
    """Which columns may not be shared."""

    columns: tuple[str, ...] = ()
    """Of the manifest, such as [speaker], whose values must each stand in one split only; beside `split.group`, paths
    and clips."""


def check(params: Params, evidence: Evidence) -> Verdict:
    """Look for values that stand in the training set and in another."""
    for path in (MANIFEST, SPLITS):
        if not (evidence.workspace / path).exists():
            return Verdict(False, f"{path} is missing in {evidence.workspace}, so nobody knows.")
    manifest, splits = read_manifest(evidence.workspace / MANIFEST), read_splits(evidence.workspace / SPLITS)
    group = evidence.params.split.group
    columns = list(dict.fromkeys(["clip_id", "path", *([group] if group else []), *params.columns]))
    if missing := [name for name in columns if name not in manifest]:
        return Verdict(
            False, f"The manifest has no column {', '.join(missing)}; it has: {', '.join(map(str, manifest.columns))}."
        )
    split = manifest["clip_id"].map(splits.set_index("clip_id")["split"])
    for name in columns:
        shared = _find_shared(manifest[name], split)
        if shared:
            shown = ", ".join(map(str, shared[:5])) + (", …" if len(shared) > 5 else "")
            return Verdict(False, f"{len(shared)} values of {name} stand in more than one split: {shown}.")
    n_train, n_test = int((split == "train").sum()), int((split == "test").sum())
    by = ", ".join(columns)
    return Verdict(True, f"{n_train} training clips and {n_test} test clips share none of: {by}.")


def _find_shared(values: pd.Series, split: pd.Series) -> list[object]:
    known = values.notna() & split.notna()
    n_splits = split[known].groupby(values[known]).nunique()
    return sorted(n_splits.index[n_splits > 1].tolist())
