"""The windows that are learned from: those of a split, with what is to be learned of each clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audioml.errors import DatasetError
from audioml.training.order import StoredOrder

READ_BYTES = 16 << 20
"""Read at a time where all windows are read in order."""
MIN_STD = 1e-3
"""Bins that never change are not blown up by standardisation; log-mel levels in dB vary by some 10."""


class Features(Protocol):
    """Windows of all clips, as `audioml.store.features.open_features` gives them."""

    @property
    def shape(self) -> tuple[int, int | None]:
        """(bins, frames) of one window; frames is None where each has its own."""

    @property
    def clip_ids(self) -> NDArray[np.object_]:
        """The clip of each window."""

    @property
    def frames(self) -> NDArray[np.int32]:
        """The frames of each window."""

    @property
    def offsets_s(self) -> NDArray[np.float64]:
        """Where each window starts in its clip, in seconds."""

    @property
    def shard_starts(self) -> NDArray[np.int64]:
        """The first window of each shard."""

    @property
    def quarantined(self) -> Mapping[str, str]:
        """The clips that could not be made into features, and why."""

    @property
    def samples(self) -> NDArray[np.int64]:
        """The samples of each window that are stored; zeros where none are."""

    def take(
        self, indices: ArrayLike, fill: ArrayLike = 0.0, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return the windows at these positions, float32 (n, bins, frames), shorter ones followed by `fill`."""

    def take_audio(self, indices: ArrayLike, out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Return the samples of these windows, float32 (n, samples), shorter ones followed by zeros."""


@dataclass(frozen=True)
class Windows:
    """The windows of some clips, and what is to be learned of each clip."""

    features: Features
    rows: NDArray[np.int64]
    """Position of each window in `features`."""
    clips: NDArray[np.int64]
    """The clip of each window, as its position in `targets` and `truth`."""
    targets: NDArray[np.generic]
    """One row a clip, as the task encodes them."""
    truth: NDArray[np.generic]
    """One row a clip, as the task compares them."""
    frame_s: float = 1.0
    """Seconds from one frame to the next; tasks that answer along time ask for it."""
    encode: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None
    """What windows at these positions are trained for, one row a window; None where that is what `targets` says of
    their clips."""

    def targets_of(self, positions: NDArray[np.int64]) -> NDArray[np.generic]:
        """Return what is to be learned of some windows, one row a window."""
        return self.targets[self.clips[positions]] if self.encode is None else self.encode(positions)

    @property
    def frames(self) -> NDArray[np.int32]:
        """Frames of each window."""
        return self.features.frames[self.rows]

    @property
    def offsets_s(self) -> NDArray[np.float64]:
        """Where each window starts in its clip, in seconds."""
        return self.features.offsets_s[self.rows]

    @property
    def durations_s(self) -> NDArray[np.float64]:
        """Of each window, in seconds."""
        return self.frames.astype(np.float64) * self.frame_s

    @property
    def shards(self) -> NDArray[np.int64]:
        """The shard of each window."""
        return np.searchsorted(self.features.shard_starts, self.rows, side="right") - 1

    @property
    def window_bytes(self) -> int:
        """Of the average window's features, and its audio where that is stored."""
        numbers = self.features.shape[0] * self.frames.mean() + self.features.samples[self.rows].mean()
        return max(1, int(4 * numbers))


@dataclass(frozen=True)
class Selection:
    """What is learned from which windows."""

    task: ModuleType
    task_params: Any
    targets: dict[str, Any]
    train: Windows
    validation: Windows
    n_quarantined: int

    def describe(self) -> dict[str, Any]:
        """Return what a tracker is told before the first epoch."""
        counts = {"train_clips": len(self.train.truth), "validation_clips": len(self.validation.truth)}
        return counts | ({"quarantined_clips": self.n_quarantined} if self.n_quarantined else {})


def select_windows(
    features: Features, clip_ids: Sequence[str], targets: NDArray[np.generic], truth: NDArray[np.generic]
) -> Windows:
    """Return the windows of the given clips, in the order in which they are stored.

    Raises
    ------
    DatasetError
        When a clip has no window.
    """
    position = {clip_id: i for i, clip_id in enumerate(clip_ids)}
    of_window = np.array([position.get(clip_id, -1) for clip_id in features.clip_ids], dtype=np.int64)
    rows = np.flatnonzero(of_window >= 0)
    clips = of_window[rows]
    if missing := sorted(set(range(len(clip_ids))) - set(clips.tolist())):
        raise DatasetError(
            f"{len(missing)} of {len(clip_ids)} clips have no features, such as {clip_ids[missing[0]]}. "
            "Make them with: audioml run featurize"
        )
    return Windows(features, rows, clips, targets, truth)


def encode_along_time(
    windows: Windows, task: ModuleType, task_params: Any, targets: dict[str, Any], frame_s: float
) -> Windows:
    """Return windows that know when their frames are, with targets of their own where the task encodes such."""
    if not hasattr(task, "encode_windows"):
        return replace(windows, frame_s=frame_s)
    offsets_s, durations_s = windows.offsets_s, windows.frames.astype(np.float64) * frame_s

    def encode(positions: NDArray[np.int64]) -> NDArray[np.float32]:
        truth = windows.truth[windows.clips[positions]]
        encoded: NDArray[np.float32] = task.encode_windows(
            task_params, targets, truth, offsets_s[positions], durations_s[positions]
        )
        return encoded

    return replace(windows, frame_s=frame_s, encode=encode)


def measure_bins(windows: Windows) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation of each bin over all windows and frames, each float32 (bins,)."""
    features, frames = windows.features, windows.frames
    bins = features.shape[0]
    at_once = max(1, READ_BYTES // (4 * bins * max(1, int(frames.max()))))
    n, total, squares = 0, np.zeros(bins), np.zeros(bins)
    for positions in StoredOrder(frames, np.arange(len(frames)), at_once).batches(0):
        block = features.take(windows.rows[positions]).astype(np.float64)
        n += block.shape[0] * block.shape[2]
        total += block.sum(axis=(0, 2))
        squares += np.square(block).sum(axis=(0, 2))
    mean = total / n
    std = np.sqrt(np.maximum(squares / n - mean**2, 0.0))
    return mean.astype(np.float32), np.maximum(std, MIN_STD).astype(np.float32)
