"""Assign clips to train, validation and test: groups whole, labels in equal shares, drawn from a seed."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from audioml.errors import DatasetError, ParamsError, did_you_mean
from audioml.params import SplitParams

RESTARTS = 20
"""Random orders of the groups that are tried; the one nearest to the wanted shares is taken."""

Mask = npt.NDArray[np.bool_]


def assign_splits(manifest: pd.DataFrame, params: SplitParams, seed: int) -> pd.DataFrame:
    """Return the split of every clip.

    The test set is what `params.test` selects, or else the highest fold, or else a drawn share; the
    validation set is drawn from the rest. The result does not depend on the order of the rows.

    Parameters
    ----------
    manifest
        One row a clip, with the columns ``clip_id`` and ``label`` and those that `params` names.
    params
        The section ``split``.
    seed
        Seeds all draws.

    Returns
    -------
    DataFrame
        ``clip_id``, ``split`` (train, validation, test) and ``fold`` (nullable integer), in the manifest's order.

    Raises
    ------
    ParamsError
        When the query is not valid, or a column does not exist.
    DatasetError
        When the query selects nothing or everything, a group would stand in two splits, a label would have no
        clips to train on, or there are too few clips or groups to draw from.
    """
    order = np.argsort(manifest["clip_id"].to_numpy(), kind="stable")
    clips = manifest.iloc[order].reset_index(drop=True)
    _check_labels(clips)
    fold = _read_fold(clips, params)
    group = _read_group(clips, params)
    generator = np.random.default_rng(seed)
    everything = np.ones(len(clips), dtype=bool)

    if params.test is not None:
        test = _select(clips, params.test)
    elif fold is not None:
        test = (fold == fold.max()).to_numpy(dtype=bool)
        if test.all():
            raise DatasetError(f"split.fold: all clips are of one fold; column {params.fold!r} needs 2 or more values.")
    elif params.test_share > 0:
        test = _draw(clips, group, everything, params.test_share, "split.test_share", generator)
    else:
        raise ParamsError("params.yaml: there is no test set; set split.test, split.fold, or split.test_share above 0.")
    _check_group_leak(clips, test, params)
    _check_training(clips, ~test, "the test set")
    validation = np.zeros(len(clips), dtype=bool)
    if params.validation_share > 0:
        validation = _draw(clips, group, ~test, params.validation_share, "split.validation_share", generator)
    splits = pd.DataFrame(
        {
            "clip_id": clips["clip_id"],
            "split": np.select([test, validation], ["test", "validation"], "train"),
            "fold": pd.array([pd.NA] * len(clips), dtype="Int64") if fold is None else fold,
        }
    )
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    splits = splits.iloc[back].reset_index(drop=True)
    check_splits(manifest, splits, params.group)
    return splits


def check_splits(manifest: pd.DataFrame, splits: pd.DataFrame, group: str | None) -> None:
    """Check a finished table of splits against its manifest.

    Raises
    ------
    DatasetError
        When a clip has no split, or two; when a group stands in two splits; when a label of the manifest
        has no clips to train on.
    """
    if sorted(splits["clip_id"]) != sorted(manifest["clip_id"]) or splits["clip_id"].duplicated().any():
        raise DatasetError(
            "The splits do not hold every clip of the manifest exactly once. Make them again with: audioml run split"
        )
    joined = manifest.merge(splits[["clip_id", "split"]], on="clip_id")
    if group is not None:
        spread = joined.groupby(group)["split"].nunique()
        if leaks := [str(value) for value in spread.index[spread > 1]]:
            raise DatasetError(
                f"Leak: {len(leaks)} values of {group!r} stand in more than one split: {_some(leaks)}. "
                "Make the splits again with: audioml run split"
            )
    _check_training(joined, (joined["split"] == "train").to_numpy(), "validation and test")


def _check_labels(clips: pd.DataFrame) -> None:
    if clips["clip_id"].duplicated().any():
        twice = clips.loc[clips["clip_id"].duplicated(), "clip_id"].iloc[0]
        raise DatasetError(f"The clip {twice[:12]} is in the manifest twice. Make it again with: audioml run ingest")
    if missing := int(clips["label"].isna().sum()):
        raise DatasetError(f"{missing} clips have no label, so they cannot be split. See: audioml run validate")
    labels = sorted(map(str, clips["label"].unique()))
    if len(labels) < 2:
        raise DatasetError(
            f"A split needs at least 2 labels, but the manifest has {_some(labels) or 'no clips'} only. "
            "Add recordings of another class, or correct data.pattern and data.label in params.yaml."
        )


def _column(clips: pd.DataFrame, name: str, key: str) -> pd.Series[Any]:
    if name not in clips:
        known = [str(column) for column in clips.columns]
        raise ParamsError(
            f"params.yaml: '{key}' is {name!r}, but the manifest has no such column.{did_you_mean(name, known)} "
            f"Columns: {', '.join(known)}."
        )
    if empty := int(clips[name].isna().sum()):
        raise DatasetError(
            f"{key}: the column {name!r} is empty for {empty} of {len(clips)} clips"
            f"{_paths(clips, clips[name].isna().to_numpy())}; every clip needs a value. Correct data.pattern "
            "or the table of clips."
        )
    return clips[name]


def _read_fold(clips: pd.DataFrame, params: SplitParams) -> pd.Series[Any] | None:
    """Return whole-number folds as they are, and any others as their place in sorted order."""
    if params.fold is None:
        return None
    values = _column(clips, params.fold, "split.fold")
    if not pd.api.types.is_integer_dtype(values):
        values = pd.Series(pd.factorize(values, sort=True)[0])
    return values.astype("Int64")


def _read_group(clips: pd.DataFrame, params: SplitParams) -> npt.NDArray[np.int64] | None:
    """Return each clip's group as a number, 0 to groups - 1."""
    if params.group is None:
        return None
    return np.asarray(pd.factorize(_column(clips, params.group, "split.group"), sort=True)[0], dtype=np.int64)


def _select(clips: pd.DataFrame, query: str) -> Mask:
    columns = ", ".join(str(column) for column in clips.columns)
    try:
        # Python's engine knows string methods; empty scopes keep this module's variables out of reach.
        selected = clips.eval(query, engine="python", local_dict={}, global_dict={})
    except NameError as error:
        name = (re.findall(r"'([^']+)'", str(error)) or [str(error)])[0]
        nearest = did_you_mean(name, [str(column) for column in clips.columns])
        raise ParamsError(
            f"params.yaml: 'split.test' is {query!r}, but the manifest has no column {name!r}.{nearest} "
            f"Columns: {columns}."
        ) from None
    except (SyntaxError, TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise ParamsError(
            f"params.yaml: 'split.test' is {query!r}, which is no valid pandas query: {error}. "
            f"Write for example: index < 5 (columns: {columns})."
        ) from None
    if not isinstance(selected, pd.Series) or not pd.api.types.is_bool_dtype(selected):
        raise ParamsError(
            f"params.yaml: 'split.test' is {query!r}, which does not say true or false of each clip. "
            f"Write for example: index < 5 (columns: {columns})."
        )
    test = selected.fillna(False).to_numpy(dtype=bool)
    if test.all() or not test.any():
        used = [name for name in clips.columns if re.search(rf"\b{re.escape(str(name))}\b", query)]
        values = "; ".join(f"{name} ({clips[name].dtype}) is {_some(clips[name].unique())}" for name in used)
        raise DatasetError(
            f"split.test: {query!r} selects {'all' if test.all() else 'none'} of {len(clips)} clips for testing. "
            f"Correct the query{f'; {values}' if values else ''}."
        )
    return test


def _check_group_leak(clips: pd.DataFrame, test: Mask, params: SplitParams) -> None:
    if params.group is None:
        return
    values = clips[params.group]
    if both := sorted(map(str, set(values[test].unique()) & set(values[~test].unique()))):
        fixed_by = f"split.test ({params.test!r})" if params.test is not None else f"split.fold ({params.fold!r})"
        raise DatasetError(
            f"Leak: {len(both)} of {values.nunique()} values of split.group ({params.group!r}) stand both in the test "
            f"set given by {fixed_by} and in the rest: {_some(both)}. Change the test set so that it takes each value "
            "whole, or remove split.group to accept that the same value is trained on and tested."
        )


def _check_training(clips: pd.DataFrame, training: Mask, elsewhere: str) -> None:
    labels = set(clips["label"].unique())
    if lost := sorted(map(str, labels - set(clips.loc[training, "label"].unique()))):
        raise DatasetError(
            f"{len(lost)} of {len(labels)} labels have no clips to train on, all are in {elsewhere}: {_some(lost)}. "
            "Add recordings of them, change the split's params, or leave these labels out of the source."
        )


def _draw(
    clips: pd.DataFrame,
    group: npt.NDArray[np.int64] | None,
    available: Mask,
    share: float,
    key: str,
    generator: np.random.Generator,
) -> Mask:
    """Draw a share of the available clips, with each label's share near it, and some left of every label."""
    label = pd.factorize(clips["label"], sort=True)[0]
    if group is None:
        return _draw_clips(clips, label, available, share, key, generator)
    return _draw_groups(label, group, available, share, key, generator)


def _draw_clips(
    clips: pd.DataFrame,
    label: npt.NDArray[np.int64],
    available: Mask,
    share: float,
    key: str,
    generator: np.random.Generator,
) -> Mask:
    drawn = np.zeros(len(label), dtype=bool)
    for code in np.unique(label[available]):
        candidates = np.flatnonzero(available & (label == code))
        if len(candidates) < 2:
            name = clips["label"].iloc[candidates[0]]
            raise DatasetError(
                f"{key}: the label {name!r} has too few clips: {len(candidates)} is left to draw from, but at least "
                "2 are needed, one to draw and one to keep. Add recordings of it, or leave the label out."
            )
        count = min(max(round(share * len(candidates)), 1), len(candidates) - 1)
        drawn[generator.permutation(candidates)[:count]] = True
    return drawn


def _draw_groups(
    label: npt.NDArray[np.int64],
    group: npt.NDArray[np.int64],
    available: Mask,
    share: float,
    key: str,
    generator: np.random.Generator,
) -> Mask:
    groups, place = np.unique(group[available], return_inverse=True)
    counts = np.zeros((len(groups), label.max() + 1))
    np.add.at(counts, (place, label[available]), 1)
    counts = counts[:, counts.sum(axis=0) > 0]
    total = counts.sum(axis=0)
    best: tuple[float, npt.NDArray[np.int64]] | None = None
    for _ in range(max(1, min(RESTARTS, 20_000 // len(groups)))):
        chosen = _fill(counts, share * total, generator.permutation(len(groups)))
        if chosen is None:
            continue
        distance = _distance(counts[chosen].sum(axis=0), share * total)
        if best is None or distance < best[0]:
            best = distance, chosen
    if best is None:
        raise DatasetError(
            f"{key}: there are too few groups: {len(groups)} are left to draw from, and taking any of them leaves a "
            "label without clips. Add groups, or split without split.group."
        )
    return available & np.isin(group, groups[best[1]])


def _fill(
    counts: npt.NDArray[np.float64], target: npt.NDArray[np.float64], order: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64] | None:
    """Take groups in this order while each brings the labels' counts nearer to the target; at least one.

    A group that would leave nothing of a label is never taken; None if that is true of all of them.
    """
    total, taken, chosen = counts.sum(axis=0), np.zeros_like(target), []
    for row in order:
        after = taken + counts[row]
        if (after < total).all() and _distance(after, target) < _distance(taken, target):
            taken = after
            chosen.append(row)
    if not chosen:
        allowed = [row for row in order if (counts[row] < total).all()]
        if not allowed:
            return None
        chosen = [min(allowed, key=lambda row: _distance(counts[row], target))]
    return np.array(chosen)


def _distance(counts: npt.NDArray[np.float64], target: npt.NDArray[np.float64]) -> float:
    return float((((counts - target) / np.maximum(target, 1)) ** 2).sum())


def _some(values: Any, limit: int = 5) -> str:
    shown = [str(value) for value in list(values)[:limit]]
    return ", ".join(shown) + (f" and {len(values) - limit} more" if len(values) > limit else "")


def _paths(clips: pd.DataFrame, rows: Mask) -> str:
    return f" ({_some(clips.loc[rows, 'path'].tolist(), 3)})" if "path" in clips else ""
