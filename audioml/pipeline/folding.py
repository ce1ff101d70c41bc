"""Cross-validation: the fold of every clip, and on what each fold's model is validated; groups whole."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from audioml.errors import DatasetError, ParamsError
from audioml.params import SplitParams
from audioml.pipeline.splitting import assign_splits, check_column, check_splits, group_column, select_clips
from audioml.store.parts import list_folds, splits_of

MAX_FOLDS = 100
"""A column with more values than this was hardly meant: each value is a training."""
FOLD = "split.folds"
"""Stands as a column beside the manifest's own, where clips are split by fold."""

Codes = npt.NDArray[np.int64]


Labels = Sequence[Sequence[str]] | None


def assign_folds(
    manifest: pd.DataFrame, params: SplitParams, seed: int, labels: Labels = None, n_labels: int = 2
) -> pd.DataFrame:
    """Return the split of every clip as `assign_splits` does; with `params.folds` its fold too.

    A model is trained for each fold, on clips of all others; its validation set is drawn from these. What
    `params.test` fixes is in no fold. Without it the highest fold is the test set of the final model. What
    `params.train_only` selects takes no part in all this, and is trained on by every model. The result does not depend
    on the order of the rows.

    Parameters
    ----------
    manifest
        One row a clip, with the columns ``clip_id`` and ``label`` and those that `params` names.
    params
        The section ``split``.
    seed
        Seeds all draws.
    labels, n_labels
        As in `assign_splits`.

    Returns
    -------
    DataFrame
        As of `assign_splits`, and with folds: `fold` (from 0, with gaps for clips that are in none), `fold_name`,
        `validates` (the folds whose models are validated on the clip).

    Raises
    ------
    ParamsError
        When a column does not exist, or has too many values to be folds.
    DatasetError
        As `assign_splits`, also for each fold.
    """
    if params.train_only is not None:
        return _add_training(manifest, params, params.train_only, seed, labels, n_labels)
    if params.folds is None:
        return assign_splits(manifest, params, seed, labels, n_labels)
    if params.test is not None:
        splits = assign_splits(manifest, params, seed, labels, n_labels)
        inside = (splits["split"] != "test").to_numpy()
    else:
        inside = np.ones(len(manifest), dtype=bool)
    fold = np.full(len(manifest), -1, dtype=np.int64)
    fold[inside], names = _find_folds(
        manifest[inside].reset_index(drop=True), params, seed, _take(labels, np.flatnonzero(inside))
    )
    if params.test is None:
        # The highest fold is the test set, as with the column `split.fold`.
        by_fold = params.model_copy(update={"fold": FOLD, "folds": None})
        splits = assign_splits(manifest.assign(**{FOLD: fold}), by_fold, seed, labels, n_labels)
    validates: list[list[int]] = [[] for _ in range(len(manifest))]
    for index, name in enumerate(names):
        for row in _draw_validation(manifest, fold, index, name, params, seed, labels, n_labels):
            validates[row].append(index)
    return splits.assign(
        fold=pd.Series(fold, index=splits.index, dtype="Int64").mask(fold < 0),
        fold_name=pd.Series([names[code] if code >= 0 else None for code in fold], index=splits.index, dtype=object),
        validates=pd.Series(validates, index=splits.index, dtype=object),
    )


def check_folds(manifest: pd.DataFrame, splits: pd.DataFrame, group: str | None) -> None:
    """Check the folds of a finished table of splits, if it has any; without a group, recordings stay whole.

    Raises
    ------
    DatasetError
        When a group stands in two parts of a fold: what its model learns from, is validated and judged on.
    """
    column, folds = group_column(manifest, group), list_folds(splits)
    if column is None or not folds:
        return
    groups = splits["clip_id"].map(manifest.set_index("clip_id")[column])
    for fold in folds:
        part = splits_of(splits, fold)["split"]
        spread = part.groupby(groups.reindex(part.index)).nunique()
        if leaks := sorted(map(str, spread.index[spread > 1])):
            raise DatasetError(
                f"Leak: in fold {fold.name!r} {len(leaks)} values of {column!r} stand on more than one side, such as "
                f"{leaks[0]}. Make the splits again with: audioml run split"
            )


def _add_training(
    manifest: pd.DataFrame, params: SplitParams, query: str, seed: int, labels: Labels, n_labels: int
) -> pd.DataFrame:
    """Return the splits of the clips that a query leaves, and those it selects as training clips in no fold."""
    added = select_clips(manifest, query, "split.train_only")
    rest = params.model_copy(update={"train_only": None})
    left = np.flatnonzero(~added)
    drawn = assign_folds(manifest.iloc[left].reset_index(drop=True), rest, seed, _take(labels, left), n_labels)
    splits = drawn.set_index(left).reindex(np.arange(len(manifest)))
    splits["clip_id"], splits["split"] = manifest["clip_id"].array, splits["split"].where(~added, "train")
    if "validates" in splits:
        splits["validates"] = [[] if alone else folds for alone, folds in zip(added, splits["validates"], strict=True)]
        splits["fold_name"] = splits["fold_name"].astype(object).where(~added, None)
    check_splits(manifest, splits, params.group, labels)
    return splits


def _take(labels: Labels, rows: Codes) -> Labels:
    return None if labels is None else [labels[row] for row in rows]


def _find_folds(clips: pd.DataFrame, params: SplitParams, seed: int, labels: Labels) -> tuple[Codes, list[str]]:
    """Return the fold of each clip, and the folds' names."""
    if isinstance(params.folds, int):
        return _draw_folds(clips, params.folds, params.group, seed, labels), [str(i + 1) for i in range(params.folds)]
    assert params.folds is not None
    codes, values = pd.factorize(check_column(clips, params.folds, "split.folds"), sort=True)
    if len(values) > MAX_FOLDS:
        raise ParamsError(
            f"params.yaml: 'split.folds' is {params.folds!r}, a column of {len(values)} values, and each would be a "
            f"training; {MAX_FOLDS} are allowed. Name another column, or a number of folds to draw."
        )
    if len(values) < 2:
        raise DatasetError(f"split.folds: all clips are of one fold; column {params.folds!r} needs 2 or more values.")
    column = group_column(clips, params.group)
    if column is not None:
        spread = pd.Series(codes).groupby(clips[column].to_numpy()).nunique()
        if leaks := sorted(map(str, spread.index[spread > 1])):
            raise DatasetError(
                f"Leak: {len(leaks)} of {len(spread)} values of {column!r} stand in more than one fold of "
                f"split.folds ({params.folds!r}), such as {leaks[0]}. Take a column whose values hold these whole, or "
                "a number of folds to draw."
            )
    return np.asarray(codes, dtype=np.int64), [str(value) for value in values]


def _draw_folds(clips: pd.DataFrame, k: int, group: str | None, seed: int, labels: Labels) -> Codes:
    """Deal clips, or groups, to folds so that each has its share of every label, or of every set of labels."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    order = np.asarray(clips["clip_id"].argsort(kind="stable"))
    named = clips["label"] if labels is None else pd.Series([repr(sorted(own)) for own in labels])
    label = pd.factorize(named.iloc[order], sort=True)[0]
    column = group_column(clips, group)
    groups = None if column is None else pd.factorize(check_column(clips, column, "split.group").iloc[order])[0]
    if labels is not None and np.bincount(label).max() < k:
        # Nearly every clip has a set of labels of its own, so there are no shares to keep.
        label = np.zeros_like(label)
    n_units, units = (len(label), "clips") if groups is None else (int(groups.max()) + 1, f"values of {column!r}")
    if n_units < k or (groups is None and np.bincount(label).max() < k):
        raise DatasetError(
            f"split.folds: {k} folds cannot be drawn from {n_units} {units}, some of every label in each. "
            "Lower split.folds, or add recordings."
        )
    splitter: Any = (StratifiedKFold if groups is None else StratifiedGroupKFold)(
        k, shuffle=True, random_state=seed % 2**32
    )
    fold = np.empty(len(clips), dtype=np.int64)
    with warnings.catch_warnings():
        # That a label has fewer clips than there are folds; what cannot be learned for it is an error below.
        warnings.filterwarnings("ignore", "The least populated class")
        for index, (_, held_out) in enumerate(splitter.split(label, label, groups)):
            fold[order[held_out]] = index
    if missing := sorted(set(range(k)) - set(fold.tolist())):
        raise DatasetError(f"split.folds: {len(missing)} of {k} folds got no clips. Lower split.folds.")
    return fold


def _draw_validation(
    manifest: pd.DataFrame,
    fold: Codes,
    index: int,
    name: str,
    params: SplitParams,
    seed: int,
    labels: Labels,
    n_labels: int,
) -> npt.NDArray[np.int64]:
    """Return the rows on which the model of one fold is validated: a share of the other folds, groups whole."""
    rows = np.flatnonzero(fold >= 0)
    clips = manifest.iloc[rows].assign(**{FOLD: (fold[rows] == index).astype(np.int64)}).reset_index(drop=True)
    by_fold = params.model_copy(update={"test": None, "fold": FOLD, "folds": None})
    try:
        splits = assign_splits(clips, by_fold, seed + 1 + index, _take(labels, rows), n_labels)
    except DatasetError as error:
        raise DatasetError(f"split.folds, with fold {name!r} held out: {error}") from None
    return rows[(splits["split"] == "validation").to_numpy()]
