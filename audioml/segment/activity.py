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

from audioml.audio.activity import HOP_S, ActiveRuns, FrameLevels, hop_samples, low_level
from audioml.audio.decode import AudioInfo
from audioml.params import Section

BLOCK_FRAMES = 50
"""Frames that share one estimate of the background."""


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
        self._levels = FrameLevels(hop_samples(sample_rate), BLOCK_FRAMES)
        self._background = _Background(max(1, round(params.background_s / HOP_S / BLOCK_FRAMES)))
        self._runs = ActiveRuns(
            sample_rate,
            min_silence_s=params.min_silence_s,
            min_active_s=params.min_active_s,
            pad_s=params.pad_s,
            max_s=params.max_s,
        )

    @property
    def keep_from(self) -> int:
        """Where the open segment starts, or where one could start."""
        return self._runs.keep_from

    def feed(self, mono: npt.NDArray[np.float32]) -> list[tuple[int, int]]:
        """Take samples; return the segments that ended in what can be judged now."""
        found: list[tuple[int, int]] = []
        levels_db = self._levels.feed(mono)
        for i in range(0, len(levels_db), BLOCK_FRAMES):
            for judged, floor_db in self._background.feed(levels_db[i : i + BLOCK_FRAMES]):
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
        return [self._next(low_level(np.concatenate(self._waiting)))]

    def finish(self, rest_db: npt.NDArray[np.float64]) -> list[tuple[npt.NDArray[np.float64], float]]:
        """Take the last, shorter block; return all that wait."""
        self._waiting.append(rest_db)
        last = low_level(np.concatenate([self._before, *self._waiting]))
        return [self._next(last) for _ in range(len(self._waiting))]

    def _next(self, ahead_db: float) -> tuple[npt.NDArray[np.float64], float]:
        self._before = self._waiting.popleft()
        behind_db = self._floors[0] if self._floors else ahead_db
        self._floors.append(ahead_db)
        if len(self._floors) > self._n:
            self._floors.popleft()
        return self._before, max(ahead_db, behind_db)
