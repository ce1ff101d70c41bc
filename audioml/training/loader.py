"""Batches for Lightning, read ahead by a thread from memory-mapped shards."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioml.errors import StepError
from audioml.training.data import Windows
from audioml.training.order import Indices, Order

READ_AHEAD = 4
"""Batches that are read before they are asked for."""


class Batch(NamedTuple):
    """Windows, shorter ones followed by silence."""

    features: Tensor
    """float32 (n, bins, frames)."""
    targets: Tensor
    """(n, ...)."""
    clips: Tensor
    """int64 (n,): the clip of each window."""
    frames: Tensor
    """int32 (n,): the frames of each window before the silence."""
    windows: Tensor
    """int64 (n,): the position of each window among those that are read."""
    audio: Tensor | None = None
    """float32 (n, samples): what features were made of, shorter windows followed by zeros; where it is asked for."""


_Ahead = deque[tuple[Indices, Future[Batch]]]


class WindowLoader:
    """An epoch of batches each time it is iterated over; it knows how far the last one went, and goes on there.

    A thread reads, as copying releases the interpreter's lock: a process would have to send every batch back.
    """

    def __init__(
        self,
        windows: Windows,
        order: Order,
        silence: NDArray[np.float32] | None = None,
        pin_memory: bool = False,
        with_audio: bool = False,
    ) -> None:
        """Read `windows` in `order`.

        Parameters
        ----------
        silence
            What follows shorter windows, one number a bin; not needed where all are of one length.
        pin_memory
            Put batches where a GPU can fetch them by itself.
        with_audio
            Read the windows' samples, too.
        """
        self.windows, self.order, self.pin_memory, self.with_audio = windows, order, pin_memory, with_audio
        self.silence = np.zeros(1, np.float32) if silence is None else silence
        self._epoch = self._n_done = 0

    def __len__(self) -> int:
        """Return the batches of an epoch."""
        return len(self.order)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration, which starts at its first batch unless the epoch is the same."""
        if epoch != self._epoch:
            self._epoch, self._n_done = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Return how far the epoch went: batches that were handed out, of how many."""
        return {"epoch": self._epoch, "n_done": self._n_done, "n_batches": len(self)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where another loader of the same windows was.

        Raises
        ------
        StepError
            When that one was in the midst of an epoch with another number of batches.
        """
        n_done, n_batches = state_dict["n_done"], state_dict["n_batches"]
        if n_done < n_batches != len(self):
            raise StepError(
                f"The checkpoint is from the midst of an epoch of {n_batches} batches, but here an epoch has "
                f"{len(self)}: it was made with another number of devices. Train with as many again, or "
                "remove .audioml/training."
            )
        self._epoch, self._n_done = state_dict["epoch"], n_done

    def __iter__(self) -> Iterator[Batch]:
        if self._n_done >= len(self):
            self._n_done = 0
        batches = islice(self.order.batches(self._epoch), self._n_done, None)
        ahead: _Ahead = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="loader") as thread:
            for positions in batches:
                ahead.append((positions, thread.submit(self._read, positions)))
                if len(ahead) > READ_AHEAD:
                    yield self._take_first(ahead)
            while ahead:
                yield self._take_first(ahead)

    def _take_first(self, ahead: _Ahead) -> Batch:
        positions, reading = ahead.popleft()
        # What the thread has not begun is read here rather than waited for.
        batch = self._read(positions) if reading.cancel() else reading.result()
        self._n_done += 1
        return batch

    def _read(self, positions: Indices) -> Batch:
        windows = self.windows
        clips, rows = windows.clips[positions], windows.rows[positions]
        frames = windows.features.frames[rows]
        shape = (len(rows), windows.features.shape[0], int(frames.max()))
        features = torch.empty(shape, dtype=torch.float32, pin_memory=self.pin_memory)
        windows.features.take(rows, self.silence, features.numpy())
        others = [torch.from_numpy(values) for values in (windows.targets_of(positions), clips, frames, positions)]
        batch = Batch(features, *(values.pin_memory() if self.pin_memory else values for values in others))
        return batch._replace(audio=self._read_audio(rows)) if self.with_audio else batch

    def _read_audio(self, rows: Indices) -> Tensor:
        shape = (len(rows), int(self.windows.features.samples[rows].max()))
        audio = torch.empty(shape, dtype=torch.float32, pin_memory=self.pin_memory)
        self.windows.features.take_audio(rows, audio.numpy())
        return audio
