"""Draw clips: groups whole, each label's count near what is wanted, and some left of every label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_array

from audioml.errors import DatasetError
from audioml.labels import NOTHING

RESTARTS = 20
"""Random orders of the groups that are tried; the one nearest to what is wanted is taken."""

Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Classes:
    """A column of a table as numbers: `codes` are each row's place in `values`, which are sorted; -1 is a gap."""

    codes: Codes
    values: Any

    @classmethod
    def of(cls, column: pd.Series[Any], order: Codes | None = None) -> Classes:
        """Return a column in numbers, its rows in this order."""
        codes, values = pd.factorize(column, sort=True)
        return cls(np.asarray(codes if order is None else codes[order], dtype=np.int64), values)

    def occur(self, rows: Mask) -> Mask:
        """Tell of each value whether it occurs in these rows."""
        return np.bincount(self.codes[rows & (self.codes >= 0)], minlength=len(self.values)) > 0

    def named(self, which: Mask) -> list[str]:
        """Return these values as sorted text."""
        return sorted(str(value) for value in self.values[which])


@dataclass(frozen=True)
class Labels:
    """The labels of clips as numbers: one pair of a row and a place in `values` for each label of each clip."""

    rows: Codes
    codes: Codes
    values: Any
    several: bool
    """Whether a clip may have more than one."""

    @classmethod
    def of(cls, clips: pd.DataFrame, labels: Sequence[Sequence[str]] | None, order: Codes) -> Labels:
        """Return the labels of clips in this order, from each clip's own or, with None, the column ``label``."""
        if labels is None:
            column = Classes.of(clips["label"], order)
            return cls(np.arange(len(clips)), column.codes, column.values, several=False)
        # Clips without labels are drawn in shares as well.
        ordered = [labels[i] or [NOTHING] for i in order]
        rows = np.repeat(np.arange(len(ordered)), [len(own) for own in ordered])
        codes, values = pd.factorize(np.array([label for own in ordered for label in own], dtype=object), sort=True)
        return cls(rows, np.asarray(codes, dtype=np.int64), values, several=True)

    def count(self, rows: Mask) -> Codes:
        """Return how many clips of these rows have each of `values`."""
        return np.bincount(self.codes[rows[self.rows]], minlength=len(self.values))

    def lacking(self, rows: Mask) -> list[str]:
        """Return the labels that no clip of these rows has."""
        there = self.count(rows) > 0
        return sorted(str(value) for value in self.values[~there] if not (self.several and value == NOTHING))


def draw_share(
    label: Labels,
    group: Classes | None,
    available: Mask,
    share: float,
    key: str,
    generator: np.random.Generator,
) -> Mask:
    """Draw a share of the available clips, with each label's share near it, and some left of every label.

    Raises
    ------
    DatasetError
        When there are too few clips of a label, or too few groups; it names `key`.
    """
    if group is None and not label.several:
        return _draw_clips(label, available, share, key, generator)
    drawn = draw_groups(label, group, available, share * label.count(available).astype(np.float64), generator)
    if drawn is None:
        n_groups = available.sum() if group is None else group.occur(available).sum()
        raise DatasetError(
            f"{key}: there are too few groups: {n_groups} are left to draw from, and taking any of them leaves a "
            "label without clips. Add recordings of other groups, or take another split.group."
        )
    return drawn


def _draw_clips(label: Labels, available: Mask, share: float, key: str, generator: np.random.Generator) -> Mask:
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


def draw_groups(
    label: Labels,
    group: Classes | None,
    available: Mask,
    wanted: npt.NDArray[np.float64],
    generator: np.random.Generator,
) -> Mask | None:
    """Draw whole groups of the available clips, one at least; None where any would take the last clip of a label.

    Parameters
    ----------
    group
        Of each clip; None takes each clip for a group of its own.
    wanted
        Clips of each label, float64 ``(len(label.values),)``: what is drawn comes near it.
    """
    codes = np.arange(len(available)) if group is None else group.codes
    pairs = available[label.rows]
    groups, place = np.unique(codes[label.rows[pairs]], return_inverse=True)
    labels, column = np.unique(label.codes[pairs], return_inverse=True)
    # Sparse: of a million recordings, nearly all have one label.
    ones = np.ones(len(place), dtype=np.int64)
    counts = csr_array((ones, (place, column)), shape=(len(groups), len(labels)))
    target = wanted[labels]
    best: tuple[float, Codes] | None = None
    for _ in range(max(1, min(RESTARTS, 20_000 // len(groups)))):
        chosen = _fill(counts, target, generator.permutation(len(groups)))
        if chosen is None:
            continue
        distance = _distance(counts[chosen].sum(axis=0), target)
        if best is None or distance < best[0]:
            best = distance, chosen
    if best is None:
        return None
    taken = np.zeros(codes.max() + 1, dtype=bool)
    taken[groups[best[1]]] = True
    return available & taken[codes]


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
