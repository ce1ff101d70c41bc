"""Squared spectra of many short windows, in blocks that stay in cache.

Framing follows librosa's ``stft(center=True, pad_mode="constant")``: frame `t` is centred on sample
``t * hop_length``, and zeros stand before the first sample and after the last. The Hann window is periodic, of
`win_length`, centred in `n_fft`.

Windows of any lengths are laid side by side on one strip of samples, each at a multiple of `hop_length`, so that
the frames of all of them are the rows of one strided view: a block takes one call a step, however many windows
stand in it. The few frames that straddle two windows are computed and ignored. Frames that hold nothing but zeros,
most of what pads a short clip, are left out: their power is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from audioml.units import samples_to_frames

BLOCK_SAMPLES = 1 << 16
"""Samples transformed at once: 256 KiB and as much of spectra, so that a block stays in a core's L2 cache."""


class Run(NamedTuple):
    """Consecutive frames of one window within a block."""

    window: int
    """Which window of the batch."""
    first: int
    """Its frame that comes first here."""
    place: int
    """Where in the block that frame is."""
    n_frames: int
    """How many."""


@lru_cache(maxsize=8)
def hann_window(win_length: int) -> NDArray[np.float64]:
    """Return the periodic Hann window, ``0.5 - 0.5 cos(2πk / win_length)``, read-only."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(win_length) / win_length)
    window.flags.writeable = False
    return window


def squared_spectra(
    windows: Sequence[NDArray[np.float32]], n_fft: int, win_length: int, hop_length: int
) -> Iterator[tuple[list[Run], NDArray[np.float32]]]:
    """Yield the squared real and imaginary parts of a batch's spectra, block by block.

    All in float32. Its rounding adds to each frame what noise some 150 dB below the frame's loudest band would:
    against a transform in float64, bands of real recordings move by up to 0.00005 dB within 40 dB of the loudest, by
    0.001 dB 75 dB below it and by 0.02 dB at 100 dB. Float64 would take half as long again.

    The transform runs down the columns of an array whose rows are no power of two long, or the cache would hold few
    of them: its output needs no transposition.

    Nothing here or after it goes through BLAS, whose sums depend on batch size and threads: a clip's features are
    the same bytes in any batch.

    Parameters
    ----------
    windows
        float32 `(samples,)` each, of any lengths.
    n_fft, win_length, hop_length
        In samples; `n_fft` even and not below `win_length`.

    Yields
    ------
    tuple
        (runs, squares): float32 `(1 + n_fft // 2, 2 * f)`, of frame `t` of the block the real part's square at
        `2 * t` and the imaginary part's beside it, and which frames these are. Frames that no run names mean
        nothing; frames that no run ever names are of zeros only.
    """
    spans = [_sounding_frames(samples, win_length, hop_length) for samples in windows]
    gap = -(-win_length // hop_length) - 1
    n_slots = min(_frames_at_once(n_fft), sum(stop - start + gap for start, stop in spans))
    if n_slots <= 0:
        return
    reach = win_length - win_length // 2
    strip = np.zeros((n_slots - 1) * hop_length + win_length, np.float32)
    step = strip.itemsize
    framed = as_strided(strip, (n_slots, win_length), (hop_length * step, step), writeable=False)
    hann = hann_window(win_length).astype(np.float32)
    padded = np.zeros((n_slots, n_fft), np.float32)
    first = (n_fft - win_length) // 2
    inner = padded[:, first : first + win_length]

    def transform(n_frames: int) -> NDArray[np.float32]:
        np.multiply(framed[:n_frames], hann, out=inner[:n_frames])
        parts: NDArray[np.float32] = scipy.fft.rfft(padded[:n_frames].T, axis=0).view(np.float32)
        return np.multiply(parts, parts, out=parts)

    runs: list[Run] = []
    place = 0
    for index, (start, stop) in enumerate(spans):
        samples = windows[index]
        n_samples = len(samples)
        while start < stop:
            if place >= n_slots:
                yield runs, transform(n_slots)
                runs, place = [], 0
            count = min(stop - start, n_slots - place)
            begin = start * hop_length - reach
            end = begin + (count - 1) * hop_length + win_length
            to = place * hop_length - begin
            if begin < 0:
                strip[to + begin : to] = 0
                begin = 0
            if end > n_samples:
                strip[to + n_samples : to + end] = 0
                end = n_samples
            strip[to + begin : to + end] = samples[begin:end]
            runs.append(Run(index, start, place, count))
            start += count
            place += count + gap
    if runs:
        yield runs, transform(min(place - gap, n_slots))


def _frames_at_once(n_fft: int) -> int:
    """Return the frames of a block; an odd multiple of 8, as rows that are powers of two apart share cache lines."""
    frames = BLOCK_SAMPLES // n_fft
    return frames // 16 * 16 + 8 if frames >= 8 else max(1, frames)


def _sounding_frames(samples: NDArray[np.float32], win_length: int, hop_length: int) -> tuple[int, int]:
    """Return the first frame that holds a sample other than zero, and the one after the last; (0, 0) for none."""
    n_samples = len(samples)
    n_frames = samples_to_frames(n_samples, hop_length)
    if n_samples and samples[0] and samples[-1]:
        return 0, n_frames
    # Searching bytes is several times as fast as argmax of a reversed view.
    sound = (samples != 0).tobytes()
    first, last = sound.find(1), sound.rfind(1)
    if first < 0:
        return 0, 0
    # Frame t holds the samples from t * hop_length - (win_length - win_length // 2) on.
    start = max(0, -((win_length // 2 - 1 - first) // hop_length))
    stop = min(n_frames, (last + win_length - win_length // 2) // hop_length + 1)
    return (start, stop) if start < stop else (0, 0)
