"""Levels of frames, and runs of active ones: what cuts recordings by activity and finds utterances in live streams.

A frame spans two hops of `HOP_S`: frame i spans hops i - 1 and i, frame 0 spans hop 0. What counts as active is for
those to say who know the background: `audioml.segment.activity` looks to both sides, `audioml.inference.activity` back
only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from audioml.units import SILENCE_DBFS, seconds_to_samples

HOP_S = 0.01
"""Between frames."""
MEASURED_FRAMES = 50
"""Measured at a time, so that they stay in cache."""
QUANTILE = 0.05
"""Share of frames that lie below the background's level: half a second of pauses in ten shows it."""


def hop_samples(sample_rate: int) -> int:
    """Return the samples of a hop at a rate in Hz; at least one."""
    return max(1, seconds_to_samples(HOP_S, sample_rate))


def low_level(levels_db: npt.NDArray[np.float64]) -> float:
    """Return the level that a share `QUANTILE` of levels does not exceed; of none, `SILENCE_DBFS`."""
    if not len(levels_db):
        return SILENCE_DBFS
    rank = int(QUANTILE * len(levels_db))
    return float(np.partition(levels_db, rank)[rank])


class FrameLevels:
    """Levels of frames in dBFS, free of DC, of mono audio that comes in parts; the same in parts of any size.

    Parameters
    ----------
    hop
        In samples.
    multiple
        As many frames, or a multiple, are measured together; what is left waits for more.
    """

    def __init__(self, hop: int, multiple: int = 1) -> None:
        self.n_samples = 0
        """Heard so far."""
        self._hop, self._multiple = hop, multiple
        self._rest: list[npt.NDArray[np.float32]] = []
        self._n_rest = 0
        self._last: tuple[float, float] | None = None
        """Sum and sum of squares of the last hop."""

    def feed(self, mono: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Take samples of any number; return the levels of the frames that are whole now."""
        self.n_samples += len(mono)
        self._rest.append(mono)
        self._n_rest += len(mono)
        size = self._multiple * self._hop
        return self._take(self._n_rest // size * size) if self._n_rest >= size else np.zeros(0)

    def finish(self) -> npt.NDArray[np.float64]:
        """Return the levels of the whole frames that are left."""
        return self._take(self._n_rest // self._hop * self._hop)

    def _take(self, n_samples: int) -> npt.NDArray[np.float64]:
        audio = self._rest[0] if len(self._rest) == 1 else np.concatenate([np.zeros(0, np.float32), *self._rest])
        rest = audio[n_samples:].copy()
        self._rest, self._n_rest = [rest], len(rest)
        size = MEASURED_FRAMES * self._hop
        parts = [self._measure(audio[i : min(i + size, n_samples)]) for i in range(0, n_samples, size)]
        return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0), *parts])

    def _measure(self, audio: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        hops = audio.astype(np.float64).reshape(-1, self._hop)
        sums, squares = hops.sum(axis=1), np.einsum("ij,ij->i", hops, hops)
        before, before_square = self._last or (sums[0], squares[0])
        self._last = (float(sums[-1]), float(squares[-1]))
        n = 2 * self._hop
        mean = (sums + np.concatenate(([before], sums[:-1]))) / n
        power = (squares + np.concatenate(([before_square], squares[:-1]))) / n - mean**2
        levels: npt.NDArray[np.float64] = 10 * np.log10(np.maximum(power, 10 ** (SILENCE_DBFS / 10)))
        return levels


class ActiveRuns:
    """Joins active frames to segments: bridges pauses, drops what is short, pads, and cuts what is long.

    Parameters
    ----------
    sample_rate
        In Hz.
    min_silence_s
        Shorter pauses do not end a segment.
    min_active_s
        Shorter activity is dropped.
    pad_s
        Kept before and behind the activity; at most half of `min_silence_s` counts.
    max_s
        Longer segments are cut.
    cut_share
        They are cut at the quietest frame in this last share of `max_s`; 0 cuts them when they are that long.
    onset_frames
        So many active frames in a row open a segment; fewer pass unnoticed while none is open.
    """

    def __init__(
        self,
        sample_rate: int,
        *,
        min_silence_s: float,
        min_active_s: float,
        pad_s: float,
        max_s: float,
        cut_share: float = 0.25,
        onset_frames: int = 1,
    ) -> None:
        silence = seconds_to_samples(min_silence_s, sample_rate)
        self._hop = hop = hop_samples(sample_rate)
        self._cut_share, self._onset_frames = cut_share, onset_frames
        # Frames overlap by a hop: so many silent ones leave `silence` samples that no active frame touches.
        self._min_silent_frames = 1 + -(-silence // hop)
        self._min_active = seconds_to_samples(min_active_s, sample_rate)
        self._pad = min(seconds_to_samples(pad_s, sample_rate), silence // 2)
        self._max = max(seconds_to_samples(max_s, sample_rate), 4 * hop)
        self._n_frames = 0
        self._n_onset = 0
        """Active frames at the end of what was fed, too few yet to open a segment."""
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
        """Sample at which the open segment starts, or the first at which one could start."""
        return self._start if self._open else self._padded((self._n_frames - self._n_onset - 1) * self._hop)

    @property
    def is_open(self) -> bool:
        """Whether a segment has started that has not ended yet."""
        return self._open

    @property
    def active(self) -> tuple[int, int]:
        """Samples at which the open segment's activity starts, and ends so far."""
        return self._active_from, self._end * self._hop

    @property
    def certain_until(self) -> int:
        """Sample up to which the open segment will hold all that has come; with `cut_share` 0 only."""
        return min(self._end * self._hop + self._pad, (self._start + self._max) // self._hop * self._hop)

    def feed(self, levels_db: npt.NDArray[np.float64], active: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
        """Take the next frames; return the segments that have ended."""
        first = self._n_frames - self._n_onset
        self._remember(levels_db)
        self._n_frames += len(levels_db)
        found: list[tuple[int, int]] = []
        bounded = np.concatenate(([False], np.ones(self._n_onset, bool), active, [False]))
        self._n_onset = 0
        edges = np.flatnonzero(bounded[1:] != bounded[:-1]) + first
        for start, end in edges.reshape(-1, 2).tolist():
            found += self._close_if_silent(start)
            if not self._open:
                if end - start < self._onset_frames:
                    self._n_onset = end - start if end == self._n_frames else 0
                    continue
                self._open = True
                self._active_from = max(0, (start - 1) * self._hop)
                self._start = self._padded(self._active_from)
            self._end = end
            found += self._cut_until(self._end * self._hop)
        return found + self._close_if_silent(self._n_frames)

    def finish(self, n_samples: int) -> list[tuple[int, int]]:
        """Return the segment that lasted to the recording's end, in as many pieces as it needs."""
        if not self._open:
            return []
        to_end = self._end == self._n_frames
        return self._close(n_samples if to_end else min(self._end * self._hop + self._pad, n_samples))

    def _padded(self, active_from: int) -> int:
        return max(0, active_from - self._pad)

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
            earliest = min(-(-(self._start + int((1 - self._cut_share) * self._max)) // self._hop), latest)
            levels_db = self._history_db[earliest - self._history_from : latest + 1 - self._history_from]
            # The frame's middle.
            cut = (earliest + int(np.argmin(levels_db))) * self._hop
            pieces.append((self._start, cut))
            self._start = self._active_from = cut
        return pieces
