"""Assign clips to train, validation and test: groups whole, labels in equal shares, drawn from a seed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from audioml.errors import DatasetError, ParamsError, did_you_mean
from audioml.params import SplitParams
from audioml.pipeline.drawing import Classes, Codes, Labels, Mask, draw_share

RECORDING = "path"
"""The column that is the group when `split.group` is not set and clips are segments of recordings."""


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
    label = Labels.of(manifest, labels, order)
    fold = _read_fold(manifest, params)
    group = read_group(manifest, params.group, order)
    generator = np.random.default_rng(seed)
    everything = np.ones(len(manifest), dtype=bool)

    if params.test is not None:
        test = select_clips(manifest, params.test, "split.test")[order]
    elif fold is not None:
        test = (fold == fold.max()).to_numpy(dtype=bool)[order]
        if test.all():
            raise DatasetError(f"split.fold: all clips are of one fold; column {params.fold!r} needs 2 or more values.")
    elif params.test_share > 0:
        test = draw_share(label, group, everything, params.test_share, "split.test_share", generator)
    else:
        raise ParamsError("params.yaml: there is no test set; set split.test, split.fold, or split.test_share above 0.")
    _check_group_leak(group, test, params)
    _check_training(label, ~test, "the test set")
    validation = np.zeros(len(manifest), dtype=bool)
    if params.validation_share > 0:
        validation = draw_share(label, group, ~test, params.validation_share, "split.validation_share", generator)
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
    split = Classes.of(splits["split"], of_splits)
    column = group_column(manifest, group)
    if column is not None:
        groups = Classes.of(manifest[column], order)
        spread = np.sum([groups.occur(split.codes == code) for code in range(len(split.values))], axis=0)
        if leaks := groups.named(spread > 1):
            raise DatasetError(
                f"Leak: {len(leaks)} values of {column!r} stand in more than one split: {_some(leaks)}. "
                "Make the splits again with: audioml run split"
            )
    training = (splits["split"] == "train").to_numpy()[of_splits]
    _check_training(Labels.of(manifest, labels, order), training, "validation and test")


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


def read_group(clips: pd.DataFrame, group: str | None, order: Codes) -> Classes | None:
    """Return the column that stays whole in numbers, its rows in this order; None where clips stand alone.

    Raises
    ------
    ParamsError, DatasetError
        As `check_column`.
    """
    name = group_column(clips, group)
    return None if name is None else Classes.of(check_column(clips, name, "split.group"), order)


def select_clips(clips: pd.DataFrame, query: str, key: str) -> Mask:
    """Return which clips a query selects.

    Raises
    ------
    ParamsError
        When it is not valid, with the key of params.yaml that it stands under.
    DatasetError
        When it selects none, or all.
    """
    columns = ", ".join(str(column) for column in clips.columns)
    used = [name for name in clips.columns if re.search(rf"(?<!\w){re.escape(str(name))}(?!\w)", query)]
    clips_used = clips[used].reset_index(drop=True)
    try:
        # Python's engine knows string methods; empty scopes keep this module's variables out of reach.
        answer = clips_used.eval(query, engine="python", local_dict={}, global_dict={})
    except NameError as error:
        name = (re.findall(r"'([^']+)'", str(error)) or [str(error)])[0]
        nearest = did_you_mean(name, [str(column) for column in clips.columns])
        raise ParamsError(
            f"params.yaml: '{key}' is {query!r}, but the manifest has no column {name!r}.{nearest} Columns: {columns}."
        ) from None
    except (SyntaxError, TypeError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise ParamsError(
            f"params.yaml: '{key}' is {query!r}, which is no valid pandas query: {error}. "
            f"Write for example: index < 5 (columns: {columns})."
        ) from None
    if not isinstance(answer, pd.Series) or not pd.api.types.is_bool_dtype(answer):
        raise ParamsError(
            f"params.yaml: '{key}' is {query!r}, which does not say true or false of each clip. "
            f"Write for example: index < 5 (columns: {columns})."
        )
    selected: Mask = answer.fillna(False).to_numpy(dtype=bool)
    if selected.all() or not selected.any():
        values = "; ".join(f"{name} ({clips[name].dtype}) is {_some(clips_used[name].unique())}" for name in used)
        raise DatasetError(
            f"{key}: {query!r} selects {'all' if selected.all() else 'none'} of {len(clips)} clips. "
            f"Correct the query{f'; {values}' if values else ''}."
        )
    return selected


def _check_group_leak(group: Classes | None, test: Mask, params: SplitParams) -> None:
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


def _check_training(label: Labels, training: Mask, elsewhere: str) -> None:
    if lost := label.lacking(training):
        raise DatasetError(
            f"{len(lost)} of {len(label.values)} labels have no clips to train on, all are in {elsewhere}: "
            f"{_some(lost)}. Add recordings of them, change the split's params, or leave these labels out of the "
            "source."
        )


def _some(values: Any, limit: int = 5) -> str:
    shown = [str(value) for value in list(values)[:limit]]
    return ", ".join(shown) + (f" and {len(values) - limit} more" if len(values) > limit else "")


def _paths(clips: pd.DataFrame, rows: Mask) -> str:
    return f" ({_some(clips.loc[rows, 'path'].tolist(), 3)})" if "path" in clips else ""
