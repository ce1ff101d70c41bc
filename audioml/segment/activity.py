"""Stretches that are louder than the background, such as words, calls or barks; the rest is left out.

Voice activity by energy: a frame of 20 ms is active when its level is `threshold_db` above the background and not
below `min_level_dbfs`. The background is the level that 5 % of frames do not exceed, taken over `background_s` before
and as much behind, whichever is higher; so it follows a change of the noise at once, while a sound that is steady for
longer than that counts as background. (Minimum statistics, after Martin 2001, IEEE Trans. Speech Audio Processing
9(5), but looking to both sides and with a low quantile, which short dropouts do not pull down.) Levels are free of DC.
Channels are heard as their mean.

Memory is that of `background_s` and `max_s` together, however long the recording.
"""

from __future__ import annotations

from collections import deque
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from audioml.audio.decode import AudioInfo
from audioml.params import Section
from audioml.units import SILENCE_DBFS, seconds_to_samples

HOP_S = 0.01
"""Between frames; a frame spans two hops."""
BLOCK_FRAMES = 50
"""Frames that share one estimate of the background."""
QUANTILE = 0.05
"""Share of frames that lie below the background's level: half a second of pauses in ten shows it."""
CUT_SHARE = 0.25
"""What is too long is cut in the last quarter of the allowed length."""


class Params(Section):
    """What counts as active, and how much is kept around it."""

    threshold_db: Annotated[float, Field(gt=0)] = 10.0
    """How far above the background a frame must be; a rumble that comes and goes, such as wind, needs 20 or more."""
    min_level_dbfs: float = -60.0
    """Frames below this level are never active."""
    background_s: Annotated[float, Field(ge=1, le=60)] = 10.0
    """The background is measured over so many seconds to each side; steady sounds that last longer belong to it."""
    min_silence_s: Annotated[float, Field(ge=0)] = 0.3
    """Shorter pauses do not end a segment."""
    min_active_s: Annotated[float, Field(ge=0)] = 0.1
    """Shorter activity is dropped."""
    pad_s: Annotated[float, Field(ge=0)] = 0.1
    """Kept before and behind the activity; at most half of min_silence_s."""
    max_s: Annotated[float, Field(ge=0.1, le=600)] = 30.0
    """Longer segments are cut, at the quietest frame of the last quarter."""

    @model_validator(mode="after")
    def _check_lengths(self) -> Params:
        if self.pad_s > self.min_silence_s / 2:
            raise ValueError(
                f"pad_s is {self.pad_s:g}, but at most half of min_silence_s ({self.min_silence_s:g}) is possible, "
                "or segments would overlap"
            )
        for name, value in (("min_silence_s", self.min_silence_s), ("min_active_s", self.min_active_s)):
            if value > self.max_s / 2:
                raise ValueError(f"{name} is {value:g}, but at most half of max_s ({self.max_s:g}) is possible")
        return self


def keeps_whole(params: Params, info: AudioInfo) -> bool:
    """Return False: only listening tells."""
    return False


def make(params: Params, sample_rate: int) -> ActivitySegmenter:
    """Return the segmenter of one recording."""
    return ActivitySegmenter(params, sample_rate)


class ActivitySegmenter:
    """From samples to levels of frames, the background, active frames, and runs of them."""

    def __init__(self, params: Params, sample_rate: int) -> None:
        self._params = params
        self._hop = max(1, seconds_to_samples(HOP_S, sample_rate))
        self._levels = _Levels(self._hop)
        self._background = _Background(max(1, round(params.background_s / HOP_S / BLOCK_FRAMES)))
        self._runs = _Runs(params, sample_rate, self._hop)

    @property
    def keep_from(self) -> int:
        """Where the open segment starts, or where one could start."""
        return self._runs.keep_from

    def feed(self, mono: npt.NDArray[np.float32]) -> list[tuple[int, int]]:
        """Take samples; return the segments that ended in what can be judged now."""
        found: list[tuple[int, int]] = []
        for levels in self._levels.feed(mono):
            for judged, floor_db in self._background.feed(levels):
                found += self._judge(judged, floor_db)
        return found

    def finish(self) -> list[tuple[int, int]]:
        """Judge what waited for more background, and return the last segments."""
        found: list[tuple[int, int]] = []
        for judged, floor_db in self._background.finish(self._levels.finish()):
            found += self._judge(judged, floor_db)
        return found + self._runs.finish(self._levels.n_samples)

    def _judge(self, levels_db: npt.NDArray[np.float64], floor_db: float) -> list[tuple[int, int]]:
        threshold = max(floor_db + self._params.threshold_db, self._params.min_level_dbfs)
        return self._runs.feed(levels_db, levels_db >= threshold)


class _Levels:
    """Levels in dBFS, in blocks of `BLOCK_FRAMES`. Frame i spans hops i - 1 and i; frame 0 spans hop 0."""

    def __init__(self, hop: int) -> None:
        self.n_samples = 0
        self._hop = hop
        self._rest: list[npt.NDArray[np.float32]] = []
        self._n_rest = 0
        self._last: tuple[float, float] | None = None
        """Sum and sum of squares of the last hop."""

    def feed(self, mono: npt.NDArray[np.float32]) -> list[npt.NDArray[np.float64]]:
        """Take samples of any number. What is measured at a time is always the same, so that the sums are too."""
        self.n_samples += len(mono)
        self._rest.append(mono)
        self._n_rest += len(mono)
        size = BLOCK_FRAMES * self._hop
        if self._n_rest < size:
            return []
        audio = np.concatenate(self._rest)
        n_whole = len(audio) // size
        self._keep(audio[n_whole * size :].copy())
        return [self._measure(audio[i * size : (i + 1) * size]) for i in range(n_whole)]

    def finish(self) -> npt.NDArray[np.float64]:
        """Return the levels of what is left, less than a block."""
        audio = np.concatenate([np.zeros(0, dtype=np.float32), *self._rest])
        self._keep(audio[:0])
        return self._measure(audio[: len(audio) // self._hop * self._hop])

    def _keep(self, rest: npt.NDArray[np.float32]) -> None:
        self._rest, self._n_rest = [rest], len(rest)

    def _measure(self, audio: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        if not len(audio):
            return np.zeros(0)
        hops = audio.astype(np.float64).reshape(-1, self._hop)
        sums, squares = hops.sum(axis=1), np.einsum("ij,ij->i", hops, hops)
        before, before_square = self._last or (sums[0], squares[0])
        self._last = (float(sums[-1]), float(squares[-1]))
        n = 2 * self._hop
        mean = (sums + np.concatenate(([before], sums[:-1]))) / n
        power = (squares + np.concatenate(([before_square], squares[:-1]))) / n - mean**2
        levels: npt.NDArray[np.float64] = 10 * np.log10(np.maximum(power, 10 ** (SILENCE_DBFS / 10)))
        return levels


class _Background:
    """Pairs each block of levels with its background level, once a window of blocks from it on is known.

    A window is the same number of blocks everywhere: near the ends of a recording it is moved inwards.
    """

    def __init__(self, window_blocks: int) -> None:
        self._n = window_blocks
        self._waiting: deque[npt.NDArray[np.float64]] = deque()
        self._before: npt.NDArray[np.float64] = np.zeros(0)
        """The last block that waits no more."""
        self._floors: deque[float] = deque()
        """Low levels of the windows that start at the `n` blocks before the oldest that waits."""

    def feed(self, levels_db: npt.NDArray[np.float64]) -> list[tuple[npt.NDArray[np.float64], float]]:
        """Take a block; return the oldest one with its background level, if a window is known from there on."""
        self._waiting.append(levels_db)
        if len(self._waiting) < self._n:
            return []
        return [self._next(_low_level([*self._waiting]))]

    def finish(self, rest_db: npt.NDArray[np.float64]) -> list[tuple[npt.NDArray[np.float64], float]]:
        """Take the last, shorter block; return all that wait."""
        self._waiting.append(rest_db)
        last = _low_level([self._before, *self._waiting])
        return [self._next(last) for _ in range(len(self._waiting))]

    def _next(self, ahead_db: float) -> tuple[npt.NDArray[np.float64], float]:
        self._before = self._waiting.popleft()
        behind_db = self._floors[0] if self._floors else ahead_db
        self._floors.append(ahead_db)
        if len(self._floors) > self._n:
            self._floors.popleft()
        return self._before, max(ahead_db, behind_db)


def _low_level(blocks: list[npt.NDArray[np.float64]]) -> float:
    levels_db = np.concatenate(blocks)
    if not len(levels_db):
        return SILENCE_DBFS
    rank = int(QUANTILE * len(levels_db))
    return float(np.partition(levels_db, rank)[rank])


class _Runs:
    """Joins active frames to segments: bridges pauses, drops what is short, pads, and cuts what is long."""

    def __init__(self, params: Params, sample_rate: int, hop: int) -> None:
        silence = seconds_to_samples(params.min_silence_s, sample_rate)
        self._hop = hop
        # Frames overlap by a hop: so many silent ones leave `silence` samples that no active frame touches.
        self._min_silent_frames = 1 + -(-silence // hop)
        self._min_active = seconds_to_samples(params.min_active_s, sample_rate)
        self._pad = min(seconds_to_samples(params.pad_s, sample_rate), silence // 2)
        self._max = max(seconds_to_samples(params.max_s, sample_rate), 4 * hop)
        self._n_frames = 0
        self._open = False
        self._start = 0
        """Sample at which the open segment starts."""
        self._active_from = 0
        """Sample at which its activity starts."""
        self._end = 0
        """Frame behind its last active one."""
        self._history_db: npt.NDArray[np.float64] = np.zeros(0)
        """Levels from the open segment's start on, to find its quietest frame."""
        self._history_from = 0
        """Frame at which they start."""

    @property
    def keep_from(self) -> int:
        return self._start if self._open else max(0, (self._n_frames - 1) * self._hop - self._pad)

    def feed(self, levels_db: npt.NDArray[np.float64], active: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
        """Take the next frames; return the segments that have ended."""
        first = self._n_frames
        self._remember(levels_db)
        self._n_frames += len(levels_db)
        found: list[tuple[int, int]] = []
        bounded = np.concatenate(([False], active, [False]))
        edges = np.flatnonzero(bounded[1:] != bounded[:-1]) + first
        for start, end in edges.reshape(-1, 2).tolist():
            found += self._close_if_silent(start)
            if not self._open:
                self._open = True
                self._active_from = max(0, (start - 1) * self._hop)
                self._start = max(0, self._active_from - self._pad)
            self._end = end
            found += self._cut_until(self._end * self._hop)
        return found + self._close_if_silent(self._n_frames)

    def finish(self, n_samples: int) -> list[tuple[int, int]]:
        """Return the segment that lasted to the recording's end, in as many pieces as it needs."""
        if not self._open:
            return []
        to_end = self._end == self._n_frames
        return self._close(n_samples if to_end else min(self._end * self._hop + self._pad, n_samples))

    def _remember(self, levels_db: npt.NDArray[np.float64]) -> None:
        if not self._open:
            self._history_db, self._history_from = levels_db, self._n_frames
            return
        done = max(0, self._start // self._hop - self._history_from)
        self._history_db = np.concatenate((self._history_db[done:], levels_db))
        self._history_from += done

    def _close_if_silent(self, frame: int) -> list[tuple[int, int]]:
        if not self._open or frame - self._end < self._min_silent_frames:
            return []
        return self._close(self._end * self._hop + self._pad)

    def _close(self, stop: int) -> list[tuple[int, int]]:
        pieces = self._cut_until(stop)
        if min(self._end * self._hop, stop) - self._active_from >= self._min_active:
            pieces.append((self._start, stop))
        self._open = False
        return pieces

    def _cut_until(self, stop: int) -> list[tuple[int, int]]:
        """Cut pieces off the open segment until the rest, up to `stop`, is not too long."""
        pieces = []
        while stop - self._start > self._max:
            latest = min((self._start + self._max) // self._hop, self._n_frames - 1)
            earliest = min(-(-(self._start + int((1 - CUT_SHARE) * self._max)) // self._hop), latest)
            levels_db = self._history_db[earliest - self._history_from : latest + 1 - self._history_from]
            # The frame's middle.
            cut = (earliest + int(np.argmin(levels_db))) * self._hop
            pieces.append((self._start, cut))
            self._start = self._active_from = cut
        return pieces
