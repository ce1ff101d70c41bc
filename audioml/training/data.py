"""Batches of feature windows for Lightning, read from memory-mapped shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from audioml.errors import DatasetError
from audioml.training.seeds import derive_seed

READ_WINDOWS = 1024
"""Windows read at a time where all are read in order."""
MIN_STD = 1e-3
"""Bins that never change are not blown up by standardisation; log-mel levels in dB vary by some 10."""


class Features(Protocol):
    """Windows of all clips, as `audioml.store.shards.open_features` gives them."""

    @property
    def clip_ids(self) -> NDArray[np.object_]:
        """The clip of each window."""

    @property
    def shape(self) -> tuple[int, int]:
        """(bins, frames) of one window."""

    def take(self, indices: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the windows at these positions, float32 (n, bins, frames)."""


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


Batch = tuple[Tensor, Tensor, Tensor]
"""Features (n, bins, frames), targets (n, ...) and clips (n,)."""


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


def measure_bins(windows: Windows) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return mean and standard deviation of each bin over all windows and frames, each float32 (bins,)."""
    bins, _ = windows.features.shape
    n, total, squares = 0, np.zeros(bins), np.zeros(bins)
    for start in range(0, len(windows.rows), READ_WINDOWS):
        block = windows.features.take(windows.rows[start : start + READ_WINDOWS]).astype(np.float64)
        n += block.shape[0] * block.shape[2]
        total += block.sum(axis=(0, 2))
        squares += np.square(block).sum(axis=(0, 2))
    mean = total / n
    std = np.sqrt(np.maximum(squares / n - mean**2, 0.0))
    return mean.astype(np.float32), np.maximum(std, MIN_STD).astype(np.float32)


def train_loader(
    windows: Windows, seed: int, first_epoch: int, batch_size: int, rank: int = 0, n_ranks: int = 1
) -> DataLoader[Batch]:
    """Return shuffled batches; the order follows from the seed and the epoch alone, counted from 0."""
    return _load(windows, ShuffledBatches(len(windows.rows), batch_size, seed, first_epoch, rank, n_ranks))


def validation_loader(windows: Windows, batch_size: int, rank: int = 0, n_ranks: int = 1) -> DataLoader[Batch]:
    """Return batches in stored order; each process gets whole clips."""
    mine = np.flatnonzero(windows.clips % n_ranks == rank)
    return _load(windows, _split(mine, batch_size))


class ShuffledBatches(Sampler[list[int]]):
    """Positions of windows, batch by batch, of sizes that differ by one at most.

    Every process gets the same number of windows; where they don't divide evenly some come twice.
    """

    def __init__(
        self, n: int, batch_size: int, seed: int, first_epoch: int = 0, rank: int = 0, n_ranks: int = 1
    ) -> None:
        self.n, self.batch_size, self.seed, self.rank, self.n_ranks = n, batch_size, seed, rank, n_ranks
        # Lightning draws the first order of a resumed run before it says which epoch that is.
        self.epoch = first_epoch

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration is for. Lightning calls this before each but the first."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self._n_mine // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng(derive_seed(self.seed, "shuffle", self.epoch)).permutation(self.n)
        mine = np.resize(order, self._n_mine * self.n_ranks)[self.rank :: self.n_ranks]
        return iter(_split(mine, self.batch_size))

    @property
    def _n_mine(self) -> int:
        return -(-self.n // self.n_ranks)


class _WindowDataset(Dataset[Batch]):
    """Indexed by a whole batch of positions, so that a batch is one read."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows

    def __getitem__(self, positions: list[int]) -> Batch:
        clips = self.windows.clips[positions]
        features = self.windows.features.take(self.windows.rows[positions])
        return torch.from_numpy(features), torch.from_numpy(self.windows.targets[clips]), torch.from_numpy(clips)


def _split(positions: NDArray[np.int64], batch_size: int) -> list[list[int]]:
    n_batches = -(-len(positions) // batch_size)
    return [part.tolist() for part in np.array_split(positions, n_batches)] if n_batches else []


def _load(windows: Windows, batches: Sampler[list[int]] | list[list[int]]) -> DataLoader[Batch]:
    # batch_size None: the sampler's items are batches already.
    return DataLoader(_WindowDataset(windows), batch_size=None, sampler=batches)
