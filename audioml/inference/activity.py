"""Utterances of a live stream: where speech, or any sound above the background, starts and ends.

As `audioml.segment.activity` cuts recordings, but knowing nothing of what is still to come. A frame of 20 ms is active
when its level is `threshold_db` above the background and not below `min_level_dbfs`. The background is the level that
5 % of the last `background_s` do not exceed, taken anew every `BLOCK_FRAMES`. (Minimum statistics, after Martin 2001,
IEEE Trans. Speech Audio Processing 9(5).) A stream that has just begun has shown no background yet, and may begin
within a word: until `WARM_UP_FRAMES` were heard the background counts as no louder than `WARM_UP_DBFS`.

What is found depends on no part's size. Memory is that of `background_s`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt

from audioml.audio.activity import HOP_S, ActiveRuns, FrameLevels, hop_samples, low_level
from audioml.errors import ParamsError

BLOCK_FRAMES = 10
"""Frames that share one estimate of the background."""
ONSET_FRAMES = 3
"""Active frames in a row that start an utterance: a click makes two."""
WARM_UP_FRAMES = 100
WARM_UP_DBFS = -45.0


@dataclass(frozen=True)
class EndPointing:
    """What counts as active, and when an utterance ends."""

    end_silence_s: float = 0.5
    """An utterance ends when it was silent for so long; shorter pauses belong to it."""
    max_utterance_s: float = 30.0
    """A longer one is cut, and goes on as the next."""
    pad_s: float = 0.2
    """Kept before and behind the activity, so that soft starts and ends are heard; at most half of `end_silence_s`."""
    min_active_s: float = 0.08
    """Shorter activity is no utterance."""
    threshold_db: float = 10.0
    """How far above the background a frame must be."""
    min_level_dbfs: float = -60.0
    """Frames below this level are never active."""
    background_s: float = 5.0
    """The background is measured over so many seconds; steady sounds that last longer belong to it."""

    def __post_init__(self) -> None:
        """Check what belongs together.

        Raises
        ------
        ParamsError
            When an utterance could not be what it is to be.
        """
        if self.pad_s > self.end_silence_s / 2:
            raise ParamsError(
                f"pad_s is {self.pad_s:g}, but at most half of end_silence_s ({self.end_silence_s:g}) is possible, "
                "or utterances would overlap."
            )
        if not 1 <= self.max_utterance_s <= 600:
            raise ParamsError(f"max_utterance_s is {self.max_utterance_s:g}; it must be from 1 to 600.")
        if self.end_silence_s > self.max_utterance_s / 2:
            raise ParamsError(
                f"end_silence_s is {self.end_silence_s:g}, but at most half of max_utterance_s "
                f"({self.max_utterance_s:g}) is possible."
            )


class EndPointer:
    """Finds the utterances of one stream.

    Parameters
    ----------
    params
        What counts.
    sample_rate
        In Hz.
    """

    def __init__(self, params: EndPointing, sample_rate: int) -> None:
        self.runs = ActiveRuns(
            sample_rate,
            min_silence_s=params.end_silence_s,
            min_active_s=params.min_active_s,
            pad_s=params.pad_s,
            max_s=params.max_utterance_s,
            cut_share=0.0,
            onset_frames=ONSET_FRAMES,
        )
        """The utterance that is open, if one is."""
        self._params = params
        self._levels = FrameLevels(hop_samples(sample_rate))
        self._n_recent = max(WARM_UP_FRAMES, round(params.background_s / HOP_S))
        self._recent_db: npt.NDArray[np.float64] = np.zeros(0)
        """Levels of frames behind which the background was last taken, the newest last."""
        self._block: list[npt.NDArray[np.float64]] = []
        """Levels of those since."""
        self._n_block = 0
        self._threshold_db = self._above(WARM_UP_DBFS)

    @property
    def keep_from(self) -> int:
        """The first sample that an utterance still to come may hold; never falls."""
        return self.runs.keep_from

    def feed(self, mono: npt.NDArray[np.float32]) -> list[tuple[int, int]]:
        """Take the next samples, float32 ``(samples,)``; return the utterances that have ended, as (start, stop)."""
        levels_db = self._levels.feed(mono)
        return self.runs.feed(levels_db, self._judge(levels_db)) if len(levels_db) else []

    def finish(self) -> list[tuple[int, int]]:
        """Return the utterances that are left when the stream has ended."""
        return self.runs.finish(self._levels.n_samples)

    def _judge(self, levels_db: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        active = np.empty(len(levels_db), bool)
        start = 0
        while start < len(levels_db):
            stop = min(start + BLOCK_FRAMES - self._n_block, len(levels_db))
            part = levels_db[start:stop]
            np.greater_equal(part, self._threshold_db, out=active[start:stop])
            self._block.append(part)
            self._n_block += len(part)
            if self._n_block == BLOCK_FRAMES:
                self._take_background()
            start = stop
        return active

    def _take_background(self) -> None:
        self._recent_db = np.concatenate([self._recent_db, *self._block])[-self._n_recent :]
        self._block, self._n_block = [], 0
        ceiling_db = WARM_UP_DBFS if len(self._recent_db) < WARM_UP_FRAMES else inf
        self._threshold_db = self._above(min(low_level(self._recent_db), ceiling_db))

    def _above(self, background_db: float) -> float:
        return max(background_db + self._params.threshold_db, self._params.min_level_dbfs)
