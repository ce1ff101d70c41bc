"""Long recordings in constant memory: read in blocks, cut into segments.

`AudioFile` is for paths what `decode` is for bytes, with the same reasons for the same faults, but gives block after
block: a fault behind the first block shows only when it is reached. `cut_recording` holds no more of a recording than
the segmenter may still need.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
import numpy.typing as npt
import soundfile

from audioml.audio.decode import (
    BLOCK_SAMPLES,
    UNKNOWN_SAMPLES,
    AudioInfo,
    check_length,
    check_rate,
    describe_file,
    name_fault,
    open_forward,
)
from audioml.audio.encode import encode_like
from audioml.audio.prepare import mix_to_mono
from audioml.audio.truncation import find_truncation, states_length
from audioml.errors import DecodeError
from audioml.units import samples_to_seconds, seconds_to_samples

BLOCK_S = 5.0
"""Seconds that `cut_recording` reads at a time: enough to make the cost of a call vanish, and it fits the cache."""


class AudioFile:
    """An audio file that is read forward, once; a context manager.

    Parameters
    ----------
    path
        The file; the format is found from the content.

    Raises
    ------
    DecodeError
        As `decode`, for what the file's header and its size show: reason ``empty``, ``unreadable`` or ``truncated``.
    OSError
        When the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY)
        try:
            view = _FileView(self._descriptor)
            self._file = open_forward(self._descriptor, view)
            self.info = describe_file(self._file)
            """What the header says; `n_samples` may be wrong where the format does not state it."""
            check_rate(self.info.sample_rate)
            if lack := find_truncation(view):
                raise DecodeError("truncated", lack)
            self._exact = self.info.n_samples < UNKNOWN_SAMPLES and states_length(view)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> AudioFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; nothing can be read from it then."""
        if hasattr(self, "_file"):
            self._file.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def blocks(self, duration_s: float) -> Iterator[npt.NDArray[np.float32]]:
        """Read the file from where it stands to its end.

        Parameters
        ----------
        duration_s
            Of a block; the last is shorter. Blocks of very many channels are shorter too.

        Yields
        ------
        float32 ``(channels, samples)``, contiguous, at least one sample; integer formats are in [-1, 1].

        Raises
        ------
        DecodeError
            When the place is reached: ``unreadable`` for damaged data, ``not_finite`` for NaN or infinite samples,
            ``truncated`` at an end before the header's, ``empty`` when there was no sample.
        """
        rate = self.info.sample_rate
        size = max(1, min(seconds_to_samples(duration_s, rate), BLOCK_SAMPLES // self.info.channels))
        n_read = 0
        while not (self._exact and n_read >= self.info.n_samples > 0):
            block = self._read(size)
            if block.shape[1]:
                _check_finite(block, n_read, rate)
                n_read += block.shape[1]
                yield block
            if block.shape[1] < size:
                break
        check_length(n_read, self.info, self._exact)

    def _read(self, n_samples: int) -> npt.NDArray[np.float32]:
        try:
            block = self._file.read(n_samples, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            at_end = os.lseek(self._descriptor, 0, os.SEEK_CUR) >= os.fstat(self._descriptor).st_size
            raise name_fault(error, self.info, at_end) from None
        return np.ascontiguousarray(block.T)


class Segmenter(Protocol):
    """Decides where one recording is cut, in samples from its start. What it says depends on no block's size."""

    @property
    def keep_from(self) -> int:
        """The first sample that a segment still to come may hold; never falls."""

    def feed(self, mono: npt.NDArray[np.float32]) -> list[tuple[int, int]]:
        """Take the next samples, float32 ``(samples,)``; return the segments now certain, as (start, stop)."""

    def finish(self) -> list[tuple[int, int]]:
        """Return the segments that are left when the recording has ended."""


@dataclass(frozen=True)
class Segment:
    """A stretch of a recording, in order of `start_s`."""

    start_s: float
    """Where it starts in the recording."""
    audio: npt.NDArray[np.float32]
    """float32 ``(channels, samples)``: what `data` decodes to."""
    info: AudioInfo
    """What the header of `data` says."""
    data: bytes
    """An audio file of its own: see `encode_like`."""


def cut_recording(
    path: Path, make_segmenter: Callable[[int], Segmenter], block_s: float = BLOCK_S
) -> Iterator[Segment]:
    """Read a recording in a stream and cut it.

    Parameters
    ----------
    path
        The audio file.
    make_segmenter
        From the sample rate in Hz to a new segmenter, such as ``functools.partial(plugin.make, params)``.
    block_s
        Seconds read at a time; has no influence on the segments.

    Yields
    ------
    Segment
        As soon as it is certain. None at all is possible, as in silence.

    Raises
    ------
    DecodeError, OSError
        As `AudioFile`, perhaps after some segments: then they are of a bad file, and not to be used.
    """
    with AudioFile(path) as file:
        segmenter = make_segmenter(file.info.sample_rate)
        held = HeldAudio()
        for block in file.blocks(block_s):
            held.append(block)
            for start, stop in segmenter.feed(mix_to_mono(block)):
                yield _make_segment(held.cut(start, stop), start, file.info)
            held.drop(segmenter.keep_from)
        for start, stop in segmenter.finish():
            yield _make_segment(held.cut(start, stop), start, file.info)


def _make_segment(audio: npt.NDArray[np.float32], start: int, source: AudioInfo) -> Segment:
    data, exact, info = encode_like(audio, source)
    return Segment(samples_to_seconds(start, source.sample_rate), exact, info, data)


class HeldAudio:
    """The end of what was heard, as blocks, float32 ``(channels, samples)``."""

    def __init__(self) -> None:
        self._blocks: deque[npt.NDArray[np.float32]] = deque()
        self._start = 0

    def append(self, block: npt.NDArray[np.float32]) -> None:
        """Add the next samples."""
        self._blocks.append(block)

    def drop(self, until: int) -> None:
        """Forget whole blocks that end before the sample `until`."""
        while self._blocks and self._start + self._blocks[0].shape[1] <= until:
            self._start += self._blocks.popleft().shape[1]

    def cut(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Return the samples from `start` up to `stop`, or to the last one, counted from the first ever added."""
        assert start >= self._start, "a segmenter keeps what its segments need"
        parts = []
        position = self._start
        for block in self._blocks:
            if position >= stop:
                break
            parts.append(block[:, max(start - position, 0) : stop - position])
            position += block.shape[1]
        return np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1))


class _FileView:
    """A file's bytes by slices, read when asked for. Not mapped: a mapped file that shrinks kills its readers."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self._size)
        return os.pread(self._descriptor, max(stop - start, 0), start)


def _check_finite(block: npt.NDArray[np.float32], start: int, sample_rate: int) -> None:
    finite = np.isfinite(block)
    if not finite.all():
        first = start + int(np.argmin(finite.all(axis=0)))
        at_s = samples_to_seconds(first, sample_rate)
        raise DecodeError("not_finite", f"sample {first} (at {at_s:.3f} s) is NaN or infinite, perhaps more behind it")
