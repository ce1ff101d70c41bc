"""Events that were found against those that are there: event by event, and second by second.

Source: Mesaros, Heittola, Virtanen, "Metrics for Polyphonic Sound Event Detection", Applied Sciences 6(6), 2016;
their library `sed_eval` gives the same numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ROUNDING_S = 1e-6
"""By which times may be off in their text and in floating point."""

Events = NDArray[np.float64]
"""`(events, 3 or more)`: position of the label, onset and offset in seconds."""


class Counts(NamedTuple):
    """Of each label: found and there, found, and there; int64 `(labels,)` each."""

    hits: NDArray[np.int64]
    found: NDArray[np.int64]
    there: NDArray[np.int64]

    def f1(self) -> NDArray[np.float64]:
        """Return F1 of each label; 0 where there is nothing."""
        scores: NDArray[np.float64] = 2 * self.hits / np.maximum(self.found + self.there, 1)
        return scores


def count_events(there: Events, found: Events, n_labels: int, collar_s: float, offset_share: float | None) -> Counts:
    """Return how many events are found, where each counts once (a maximum matching).

    Parameters
    ----------
    there, found
        Of one clip.
    collar_s
        Largest difference of onsets, in seconds.
    offset_share
        Offsets may differ by this share of the event's length, or by `collar_s` if that is more; None: as they like.
    """
    hits = np.zeros(n_labels, dtype=np.int64)
    for label in np.unique(there[:, 0]).astype(int):
        hits[label] = _match(there[there[:, 0] == label], found[found[:, 0] == label], collar_s, offset_share)
    return Counts(hits, _count(found, n_labels), _count(there, n_labels))


def count_segments(there: Events, found: Events, n_labels: int, segment_s: float) -> Counts:
    """Return the same of segments of a clip, side by side: a label is in each that one of its events touches."""
    n_segments = int(np.ceil(max([0.0, *there[:, 2], *found[:, 2]]) / segment_s)) + 1
    is_there, is_found = (_mark(events, n_labels, n_segments, segment_s) for events in (there, found))
    return Counts(*(marks.sum(axis=1) for marks in (is_there & is_found, is_found, is_there)))


def add(counts: list[Counts], n_labels: int) -> Counts:
    """Return the sums over clips."""
    none = np.zeros((1, n_labels), dtype=np.int64)
    return Counts(*(np.concatenate([none, *(c[i][np.newaxis] for c in counts)]).sum(axis=0) for i in range(3)))


def _match(there: Events, found: Events, collar_s: float, offset_share: float | None) -> int:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    fits = np.abs(there[:, None, 1] - found[None, :, 1]) <= collar_s + ROUNDING_S
    if offset_share is not None:
        allowed_s = np.maximum(collar_s, offset_share * (there[:, 2] - there[:, 1]))[:, None]
        fits &= np.abs(there[:, None, 2] - found[None, :, 2]) <= allowed_s + ROUNDING_S
    if not fits.any():
        return 0
    return int((maximum_bipartite_matching(csr_array(fits), perm_type="column") >= 0).sum())


def _count(events: Events, n_labels: int) -> NDArray[np.int64]:
    return np.bincount(events[:, 0].astype(np.int64), minlength=n_labels)


def _mark(events: Events, n_labels: int, n_segments: int, segment_s: float) -> NDArray[np.bool_]:
    marks = np.zeros((n_labels, n_segments), dtype=bool)
    for label, onset_s, offset_s in events[:, :3]:
        first = int((onset_s + ROUNDING_S) / segment_s)
        marks[int(label), first : max(first + 1, int(np.ceil((offset_s - ROUNDING_S) / segment_s)))] = True
    return marks
