"""Which windows make up which batch of which process: a pure function of seed and epoch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from audioml.errors import DatasetError
from audioml.training.seeds import derive_seed

SHUFFLE_BYTES = 1 << 30
"""Windows are shuffled within runs of shards of this size together, so that what is read next is in the page cache."""
POOL_BATCHES = 64
"""Batches of each process, at most, whose windows are sorted by length together. Of FSDD, in batches of 64, 7 % of the
frames are padding then, and 56 % where lengths are not looked at; larger pools save nothing there, and the larger a
pool, the more often do the same windows meet."""

Indices = NDArray[np.int64]


class Order(Protocol):
    """Batches of positions of windows."""

    def __len__(self) -> int:
        """Return the batches of an epoch."""

    def batches(self, epoch: int) -> Iterator[Indices]:
        """Yield the positions of the windows of each batch."""


@dataclass(frozen=True, eq=False)
class ShuffledOrder:
    """Every window once an epoch over all processes, for each of them in as many batches, shuffled anew each epoch.

    Shards come in an order drawn for the epoch, and windows are shuffled within runs of shards. Where windows differ
    in frames, those of a batch are of similar length, as are the batches that all processes take at the same step.
    With `classes`, an epoch has as many windows, but of each class equally many: those of small classes come again.

    Raises
    ------
    DatasetError
        When there are fewer windows than processes.
    """

    frames: NDArray[np.int32]
    """`(n,)`: frames of each window."""
    shards: Indices
    """`(n,)`: the shard of each window, in rising order."""
    window_bytes: int
    """Of the average window."""
    batch_size: int
    """Windows of the largest batch; sizes differ by one at most."""
    seed: int
    rank: int = 0
    n_ranks: int = 1
    classes: Indices | None = None
    """`(n,)`: the class of each window, to draw all classes alike."""

    def __post_init__(self) -> None:
        if len(self.frames) < self.n_ranks:
            raise DatasetError(
                f"There are {len(self.frames)} windows for training, fewer than the {self.n_ranks} processes that "
                "share them. Lower training.devices."
            )

    def __len__(self) -> int:
        return -(-len(self.frames) // (self.batch_size * self.n_ranks))

    def batches(self, epoch: int) -> Iterator[Indices]:
        """Yield the positions of the windows of each batch of this process."""
        generator = np.random.default_rng(derive_seed(self.seed, "shuffle", epoch))
        order = self._shuffle(generator)
        bounds = _split(len(order), len(self) * self.n_ranks)
        steps = np.arange(len(self))
        if self.frames.min() < self.frames.max():
            for pool in np.array_split(steps, -(-len(steps) // POOL_BATCHES)):
                windows = order[bounds[pool[0] * self.n_ranks] : bounds[(pool[-1] + 1) * self.n_ranks]]
                windows[:] = windows[np.argsort(self.frames[windows], kind="stable")]
                generator.shuffle(pool)
        for step in steps:
            part = step * self.n_ranks + self.rank
            yield order[bounds[part] : bounds[part + 1]]

    def _shuffle(self, generator: np.random.Generator) -> Indices:
        starts = np.flatnonzero(np.diff(self.shards, prepend=-1))
        drawn = generator.permutation(len(starts))
        ends = np.append(starts[1:], len(self.shards))
        sizes_bytes = (ends - starts)[drawn] * self.window_bytes
        repeats = None if self.classes is None else draw_repeats(self.classes, generator)
        run_of_shard = (np.cumsum(sizes_bytes) - sizes_bytes) // SHUFFLE_BYTES
        order = []
        for run in np.unique(run_of_shard):
            windows = np.concatenate([np.arange(starts[i], ends[i]) for i in drawn[run_of_shard == run]])
            if repeats is not None:
                windows = np.repeat(windows, repeats[windows])
            generator.shuffle(windows)
            order.append(windows)
        return np.concatenate(order)


@dataclass(frozen=True, eq=False)
class StoredOrder:
    """Windows in stored order, those of equal length together, so that nothing is padded. The same in each epoch."""

    frames: NDArray[np.int32]
    """`(n,)`: frames of each window."""
    windows: Indices
    """Positions of those that come at all."""
    batch_size: int
    """Windows of the largest batch."""

    def __len__(self) -> int:
        return len(self._parts)

    def batches(self, epoch: int) -> Iterator[Indices]:
        """Yield the positions of the windows of each batch."""
        return iter(self._parts)

    @cached_property
    def _parts(self) -> list[Indices]:
        order = self.windows[np.argsort(self.frames[self.windows], kind="stable")]
        alike = np.split(order, np.flatnonzero(np.diff(self.frames[order])) + 1) if len(order) else []
        bounds = [_split(len(part), -(-len(part) // self.batch_size)) for part in alike]
        return [batch for part, at in zip(alike, bounds, strict=True) for batch in np.split(part, at[1:-1])]


def draw_repeats(classes: Indices, generator: np.random.Generator) -> Indices:
    """Return how often each window comes in an epoch of as many windows, of each class equally many.

    Classes differ by one window at most, and so do the windows of one class.

    Parameters
    ----------
    classes
        (n,): the class of each window.
    """
    repeats = np.zeros(len(classes), np.int64)
    members = [np.flatnonzero(classes == k) for k in generator.permutation(np.unique(classes))]
    shares = np.diff(np.arange(len(members) + 1) * len(classes) // len(members))
    for windows, share in zip(members, shares, strict=True):
        times, rest = divmod(int(share), len(windows))
        repeats[windows] = times
        repeats[generator.choice(windows, rest, replace=False)] += 1
    return repeats


def _split(n: int, n_parts: int) -> Indices:
    """Return the bounds of parts whose sizes differ by one at most, `(n_parts + 1,)`."""
    return np.arange(n_parts + 1, dtype=np.int64) * n // n_parts
