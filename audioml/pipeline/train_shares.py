"""Shares of the training clips, for a learning curve: nested, groups whole, every label in each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from audioml.errors import DatasetError
from audioml.params import SplitParams
from audioml.pipeline.drawing import Labels, draw_groups
from audioml.pipeline.splitting import group_column, read_group


def assign_shares(
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    params: SplitParams,
    seed: int,
    labels: Sequence[Sequence[str]] | None = None,
) -> pd.DataFrame:
    """Return the splits with the share of every training clip, where `params.train_shares` asks for some.

    A share is what remains of the next larger one when clips, or whole groups, are left out until each label's count
    is near the share of all its training clips; one clip of every label is kept at least. The result does not depend
    on the order of the rows.

    Parameters
    ----------
    manifest
        One row a clip, with the columns ``clip_id`` and ``label`` and the one that `params.group` names.
    splits
        As of `assign_folds`, in the manifest's order; `split` is that of the final model.
    params
        The section ``split``.
    seed
        Seeds all draws.
    labels
        As in `assign_splits`.

    Returns
    -------
    DataFrame
        With the column `share`, float64: the smallest share that has the clip; NaN where none has it.

    Raises
    ------
    DatasetError
        When a share cannot be smaller than the next one, as a label would have no clips to train on.
    """
    if not params.train_shares:
        return splits
    order = np.asarray(manifest["clip_id"].argsort(kind="stable"))
    label, group = Labels.of(manifest, labels, order), read_group(manifest, params.group, order)
    kept = (splits["split"] == "train").to_numpy()[order]
    all_clips, smallest = label.count(kept), np.full(len(manifest), np.nan)
    # Another stream than that of the splits, which the same seed draws.
    generator, larger = np.random.default_rng(seed).spawn(1)[0], "all"
    for share in sorted(params.train_shares, reverse=True):
        left_out = draw_groups(label, group, kept, label.count(kept) - share * all_clips, generator)
        if left_out is None:
            column = group_column(manifest, params.group)
            whole = "" if column is None else f"; values of {column!r} stay whole"
            raise DatasetError(
                f"split.train_shares: {share} would have the same {kept.sum()} training clips as {larger}: without any "
                f"of them a label has no clips{whole}. Leave {share} out, or add recordings."
            )
        kept, larger = kept & ~left_out, str(share)
        smallest[order[kept]] = share
    return splits.assign(share=smallest)
