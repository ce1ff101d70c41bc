"""Windows of one length, side by side or overlapping, that cover the whole recording.

As lhotse's ``cut_into_windows``: windows start every `hop_s` until one reaches the end, and the last is shorter where
the length does not divide.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from audioml.audio.decode import UNKNOWN_SAMPLES, AudioInfo
from audioml.params import Section
from audioml.units import seconds_to_samples


class Params(Section):
    """How long the windows are, and how they follow each other."""

    length_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """Of a window, in seconds."""
    hop_s: Annotated[float, Field(gt=0)] | None = None
    """Seconds from one window's start to the next, at most length_s; None takes length_s: no overlap."""
    min_s: Annotated[float, Field(ge=0)] = 0.1
    """A last window shorter than this is dropped, unless it is the whole recording; 0 keeps every sample."""

    @model_validator(mode="after")
    def _check_lengths(self) -> Params:
        for name, value in (("hop_s", self.hop_s), ("min_s", self.min_s)):
            if value is not None and value > self.length_s:
                raise ValueError(f"{name} is {value:g}, but at most length_s ({self.length_s:g}) is possible")
        return self


def keeps_whole(params: Params, info: AudioInfo) -> bool:
    """Tell whether a recording is no longer than one window; False where its header does not state a length."""
    return info.n_samples < UNKNOWN_SAMPLES and info.n_samples <= seconds_to_samples(params.length_s, info.sample_rate)


def make(params: Params, sample_rate: int) -> FixedSegmenter:
    """Return the segmenter of one recording."""
    hop_s = params.length_s if params.hop_s is None else params.hop_s
    return FixedSegmenter(
        length=max(1, seconds_to_samples(params.length_s, sample_rate)),
        hop=max(1, seconds_to_samples(hop_s, sample_rate)),
        shortest=seconds_to_samples(params.min_s, sample_rate),
    )


class FixedSegmenter:
    """Windows of `length` samples every `hop` samples; a last one of fewer than `shortest` is dropped."""

    def __init__(self, length: int, hop: int, shortest: int) -> None:
        self._length, self._hop, self._shortest = length, hop, shortest
        self._n_fed = 0
        self._covered = 0
        """Samples before this are in a window."""
        self._start = 0
        """Of the next window."""

    @property
    def keep_from(self) -> int:
        """The next window's start."""
        return self._start

    def feed(self, mono: npt.NDArray[np.float32]) -> list[tuple[int, int]]:
        """Count samples; return the windows that are full now."""
        self._n_fed += len(mono)
        full = []
        while self._start + self._length <= self._n_fed:
            self._covered = self._start + self._length
            full.append((self._start, self._covered))
            self._start += self._hop
        return full

    def finish(self) -> list[tuple[int, int]]:
        """Return the shorter last window, if any."""
        if self._covered >= self._n_fed or (self._start > 0 and self._n_fed - self._start < self._shortest):
            return []
        return [(self._start, self._n_fed)]
