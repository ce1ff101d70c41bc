"""Assign clips to train, validation and test: groups whole, labels in equal shares, drawn from a seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_array

from audioml.errors import DatasetError, ParamsError, did_you_mean
from audioml.labels import NOTHING
from audioml.params import SplitParams

RESTARTS = 20
"""Random orders of the groups that are tried; the one nearest to the wanted shares is taken."""

RECORDING = "path"
"""The column that is the group when `split.group` is not set and clips are segments of recordings."""

Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Classes:
    """A column of a table as numbers: `codes` are each row's place in `values`, which are sorted; -1 is a gap."""

    codes: Codes
    values: Any

    @classmethod
    def of(cls, column: pd.Series[Any], order: Codes | None = None) -> _Classes:
        """Return a column in numbers, its rows in this order."""
        codes, values = pd.factorize(column, sort=True)
        return cls(np.asarray(codes if order is None else codes[order], dtype=np.int64), values)

    def occur(self, rows: Mask) -> Mask:
        """Tell of each value whether it occurs in these rows."""
        return np.bincount(self.codes[rows & (self.codes >= 0)], minlength=len(self.values)) > 0

    def named(self, which: Mask) -> list[str]:
        return sorted(str(value) for value in self.values[which])


@dataclass(frozen=True)
class _Labels:
    """The labels of clips as numbers: one pair of a row and a place in `values` for each label of each clip."""

    rows: Codes
    codes: Codes
    values: Any
    several: bool
    """Whether a clip may have more than one."""

    @classmethod
    def of(cls, clips: pd.DataFrame, labels: Sequence[Sequence[str]] | None, order: Codes) -> _Labels:
        """Return the labels of clips in this order, from each clip's own or, with None, the column ``label``."""
        if labels is None:
            column = _Classes.of(clips["label"], order)
            return cls(np.arange(len(clips)), column.codes, column.values, several=False)
        # Clips without labels are drawn in shares as well.
        ordered = [labels[i] or [NOTHING] for i in order]
        rows = np.repeat(np.arange(len(ordered)), [len(own) for own in ordered])
        codes, values = pd.factorize(np.array([label for own in ordered for label in own], dtype=object), sort=True)
        return cls(rows, np.asarray(codes, dtype=np.int64), values, several=True)

    def lacking(self, rows: Mask) -> list[str]:
        """Return the labels that no clip of these rows has."""
        there = np.bincount(self.codes[rows[self.rows]], minlength=len(self.values)) > 0
        return sorted(str(value) for value in self.values[~there] if not (self.several and value == NOTHING))


def assign_splits(
    manifest: pd.DataFrame,
    params: SplitParams,
    seed: int,
    labels: Sequence[Sequence[str]] | None = None,
    n_labels: int = 2,
) -> pd.DataFrame:
    """Return the split of every clip.

    The test set is what `params.test` selects, or else the highest fold, or else a drawn share; the
    validation set is drawn from the rest. Without `params.group`, segments of one recording (clips of one
    ``path``) stay together. The result does not depend on the order of the rows.

    Parameters
    ----------
    manifest
        One row a clip, with the columns ``clip_id`` and ``label`` and those that `params` names.
    params
        The section ``split``.
    seed
        Seeds all draws.
    labels
        The labels of each clip, none or more; None takes the column ``label`` for one.
    n_labels
        Different labels that there must be at least.

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
    _check_labels(manifest, labels, n_labels)
    # All below is in the order of clip_id, in numbers: a sorted copy of the manifest would double its memory.
    order = np.asarray(manifest["clip_id"].argsort(kind="stable"))
    label = _Labels.of(manifest, labels, order)
    fold = _read_fold(manifest, params)
    group = _read_group(manifest, params, order)
    generator = np.random.default_rng(seed)
    everything = np.ones(len(manifest), dtype=bool)

    if params.test is not None:
        test = _select(manifest, order, params.test)
    elif fold is not None:
        test = (fold == fold.max()).to_numpy(dtype=bool)[order]
        if test.all():
            raise DatasetError(f"split.fold: all clips are of one fold; column {params.fold!r} needs 2 or more values.")
    elif params.test_share > 0:
        test = _draw(label, group, everything, params.test_share, "split.test_share", generator)
    else:
        raise ParamsError("params.yaml: there is no test set; set split.test, split.fold, or split.test_share above 0.")
    _check_group_leak(group, test, params)
    _check_training(label, ~test, "the test set")
    validation = np.zeros(len(manifest), dtype=bool)
    if params.validation_share > 0:
        validation = _draw(label, group, ~test, params.validation_share, "split.validation_share", generator)
    split = np.empty(len(manifest), dtype=np.int64)
    split[order] = np.select([test, validation], [2, 1], 0)
    splits = pd.DataFrame(
        {
            "clip_id": manifest["clip_id"].array,
            "split": pd.Series(["train", "validation", "test"]).take(split).array,
            "fold": pd.Series(pd.NA, index=range(len(manifest)), dtype="Int64").array if fold is None else fold.array,
        }
    )
    check_splits(manifest, splits, params.group, labels)
    return splits


def check_splits(
    manifest: pd.DataFrame, splits: pd.DataFrame, group: str | None, labels: Sequence[Sequence[str]] | None = None
) -> None:
    """Check a finished table of splits against its manifest; without a group, recordings stay whole.

    Raises
    ------
    DatasetError
        When a clip has no split, or two; when a group stands in two splits; when a label of the manifest
        has no clips to train on.
    """
    # Sorted, not joined: a join of a million ids by hash takes several times their memory.
    order, of_splits = (np.asarray(table["clip_id"].argsort(kind="stable")) for table in (manifest, splits))
    if (
        len(order) != len(of_splits)
        or splits["clip_id"].duplicated().any()
        or not (manifest["clip_id"].array[order] == splits["clip_id"].array[of_splits]).all()
    ):
        raise DatasetError(
            "The splits do not hold every clip of the manifest exactly once. Make them again with: audioml run split"
        )
    split = _Classes.of(splits["split"], of_splits)
    column = group_column(manifest, group)
    if column is not None:
        groups = _Classes.of(manifest[column], order)
        spread = np.sum([groups.occur(split.codes == code) for code in range(len(split.values))], axis=0)
        if leaks := groups.named(spread > 1):
            raise DatasetError(
                f"Leak: {len(leaks)} values of {column!r} stand in more than one split: {_some(leaks)}. "
                "Make the splits again with: audioml run split"
            )
    training = (splits["split"] == "train").to_numpy()[of_splits]
    _check_training(_Labels.of(manifest, labels, order), training, "validation and test")


def _check_labels(clips: pd.DataFrame, given: Sequence[Sequence[str]] | None, n_labels: int) -> None:
    if clips["clip_id"].duplicated().any():
        twice = clips.loc[clips["clip_id"].duplicated(), "clip_id"].iloc[0]
        raise DatasetError(f"The clip {twice[:12]} is in the manifest twice. Make it again with: audioml run ingest")
    if missing := int(clips["label"].isna().sum()):
        raise DatasetError(f"{missing} clips have no label, so they cannot be split. See: audioml run validate")
    labels = sorted(map(str, clips["label"].unique()) if given is None else {label for own in given for label in own})
    if len(labels) < n_labels:
        raise DatasetError(
            f"A split needs at least {n_labels} label{'s'[: n_labels > 1]}, but the manifest has "
            f"{_some(labels) or ('no clips' if given is None else 'none')} only. "
            "Add recordings of another class, or correct data.pattern and data.label in params.yaml."
        )


def check_column(clips: pd.DataFrame, name: str, key: str) -> pd.Series[Any]:
    """Return the column that a key of params.yaml names.

    Raises
    ------
    ParamsError
        When there is no such column.
    DatasetError
        When a clip has no value there.
    """
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
    values = check_column(clips, params.fold, "split.fold")
    if not pd.api.types.is_integer_dtype(values):
        values = pd.Series(pd.factorize(values, sort=True)[0])
    return values.astype("Int64")


def group_column(clips: pd.DataFrame, group: str | None) -> str | None:
    """Return the column that stays whole: the one asked for, or the recordings if some have several clips."""
    if group is None and RECORDING in clips and clips[RECORDING].duplicated().any():
        return RECORDING
    return group


def _read_group(clips: pd.DataFrame, params: SplitParams, order: Codes) -> _Classes | None:
    name = group_column(clips, params.group)
    return None if name is None else _Classes.of(check_column(clips, name, "split.group"), order)


def _select(clips: pd.DataFrame, order: Codes, query: str) -> Mask:
    """Return which clips, in this order, the query selects."""
    columns = ", ".join(str(column) for column in clips.columns)
    used = [name for name in clips.columns if re.search(rf"(?<!\w){re.escape(str(name))}(?!\w)", query)]
    clips_used = clips[used].iloc[order].reset_index(drop=True)
    try:
        # Python's engine knows string methods; empty scopes keep this module's variables out of reach.
        selected = clips_used.eval(query, engine="python", local_dict={}, global_dict={})
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
        values = "; ".join(f"{name} ({clips[name].dtype}) is {_some(clips_used[name].unique())}" for name in used)
        raise DatasetError(
            f"split.test: {query!r} selects {'all' if test.all() else 'none'} of {len(clips)} clips for testing. "
            f"Correct the query{f'; {values}' if values else ''}."
        )
    return test


def _check_group_leak(group: _Classes | None, test: Mask, params: SplitParams) -> None:
    if group is None:
        return
    if both := group.named(group.occur(test) & group.occur(~test)):
        fixed_by = f"split.test ({params.test!r})" if params.test is not None else f"split.fold ({params.fold!r})"
        total, found = len(group.values), f"stand both in the test set given by {fixed_by} and in the rest"
        if params.group is None:
            raise DatasetError(
                f"Leak: segments of {len(both)} of {total} recordings {found}: {_some(both)}. Change the test set so "
                f"that it takes each recording (column {RECORDING!r}) whole."
            )
        raise DatasetError(
            f"Leak: {len(both)} of {total} values of split.group ({params.group!r}) {found}: {_some(both)}. Change "
            "the test set so that it takes each value whole, or remove split.group to accept that the same value is "
            "trained on and tested."
        )


def _check_training(label: _Labels, training: Mask, elsewhere: str) -> None:
    if lost := label.lacking(training):
        raise DatasetError(
            f"{len(lost)} of {len(label.values)} labels have no clips to train on, all are in {elsewhere}: "
            f"{_some(lost)}. Add recordings of them, change the split's params, or leave these labels out of the "
            "source."
        )


def _draw(
    label: _Labels,
    group: _Classes | None,
    available: Mask,
    share: float,
    key: str,
    generator: np.random.Generator,
) -> Mask:
    """Draw a share of the available clips, with each label's share near it, and some left of every label."""
    if group is None and not label.several:
        return _draw_clips(label, available, share, key, generator)
    # A clip with several labels is a group of its own.
    groups = np.arange(len(available)) if group is None else group.codes
    return _draw_groups(label, groups, available, share, key, generator)


def _draw_clips(label: _Labels, available: Mask, share: float, key: str, generator: np.random.Generator) -> Mask:
    drawn = np.zeros(len(available), dtype=bool)
    rows = np.flatnonzero(available)
    rows = rows[np.argsort(label.codes[rows], kind="stable")]
    for candidates in np.split(rows, np.flatnonzero(np.diff(label.codes[rows])) + 1):
        if len(candidates) < 2:
            name = label.values[label.codes[candidates[0]]]
            raise DatasetError(
                f"{key}: the label {name!r} has too few clips: {len(candidates)} is left to draw from, but at least "
                "2 are needed, one to draw and one to keep. Add recordings of it, or leave the label out."
            )
        count = min(max(round(share * len(candidates)), 1), len(candidates) - 1)
        drawn[generator.permutation(candidates)[:count]] = True
    return drawn


def _draw_groups(
    label: _Labels, group: Codes, available: Mask, share: float, key: str, generator: np.random.Generator
) -> Mask:
    pairs = available[label.rows]
    groups, place = np.unique(group[label.rows[pairs]], return_inverse=True)
    labels, column = np.unique(label.codes[pairs], return_inverse=True)
    # Sparse: of a million recordings, nearly all have one label.
    ones = np.ones(len(place), dtype=np.int64)
    counts = csr_array((ones, (place, column)), shape=(len(groups), len(labels)))
    target = share * counts.sum(axis=0)
    best: tuple[float, Codes] | None = None
    for _ in range(max(1, min(RESTARTS, 20_000 // len(groups)))):
        chosen = _fill(counts, target, generator.permutation(len(groups)))
        if chosen is None:
            continue
        distance = _distance(counts[chosen].sum(axis=0), target)
        if best is None or distance < best[0]:
            best = distance, chosen
    if best is None:
        raise DatasetError(
            f"{key}: there are too few groups: {len(groups)} are left to draw from, and taking any of them leaves a "
            "label without clips. Add recordings of other groups, or take another split.group."
        )
    taken = np.zeros(group.max() + 1, dtype=bool)
    taken[groups[best[1]]] = True
    return available & taken[group]


def _fill(counts: csr_array, target: npt.NDArray[np.float64], order: Codes) -> Codes | None:
    """Take groups in this order while each brings the labels' counts nearer to the target; at least one.

    `counts` is (groups, labels). A group that would leave nothing of a label is never taken; None if that is true of
    all of them.
    """
    # A group changes few terms of the distance; their sum is made anew, so that no error of rounding adds up.
    pointers, columns, values = counts.indptr.tolist(), counts.indices.tolist(), counts.data.tolist()
    total, wanted, scale = counts.sum(axis=0).tolist(), target.tolist(), np.maximum(target, 1).tolist()
    taken = [0] * len(total)
    terms = (target / np.maximum(target, 1)) ** 2
    nearest = terms.sum()
    chosen: list[int] = []
    alone: tuple[float, int] | None = None
    for row in order.tolist():
        cells = [(columns[i], taken[columns[i]] + values[i]) for i in range(pointers[row], pointers[row + 1])]
        if any(count >= total[column] for column, count in cells):
            continue
        before = [terms[column] for column, _ in cells]
        for column, count in cells:
            away = (count - wanted[column]) / scale[column]
            terms[column] = away * away
        distance = terms.sum()
        if distance < nearest:
            nearest = distance
            chosen.append(row)
            for column, count in cells:
                taken[column] = count
        else:
            if alone is None or distance < alone[0]:
                alone = distance, row
            for (column, _), term in zip(cells, before, strict=True):
                terms[column] = term
    if not chosen:
        return None if alone is None else np.array([alone[1]])
    return np.array(chosen)


def _distance(counts: npt.NDArray[np.int64], target: npt.NDArray[np.float64]) -> float:
    return float((((counts - target) / np.maximum(target, 1)) ** 2).sum())


def _some(values: Any, limit: int = 5) -> str:
    shown = [str(value) for value in list(values)[:limit]]
    return ", ".join(shown) + (f" and {len(values) - limit} more" if len(values) > limit else "")


def _paths(clips: pd.DataFrame, rows: Mask) -> str:
    return f" ({_some(clips.loc[rows, 'path'].tolist(), 3)})" if "path" in clips else ""
