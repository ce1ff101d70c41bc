"""Power spectra of many short windows, in blocks that stay in cache.

Framing follows librosa's ``stft(center=True, pad_mode="constant")``: frame `t` is centred on sample
``t * hop_length``, and zeros stand before the first sample and after the last. The window is a periodic
Hann window of `win_length`, centred in `n_fft`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from audioml.units import samples_to_frames

BLOCK_SAMPLES = 1 << 17
"""Windowed samples transformed at once: 1 MiB of float64, so that a block stays in the L2 cache. Measured
with n_fft 512: 1.4 µs a frame, against 2.7 µs with blocks twice as large."""


@lru_cache(maxsize=8)
def hann_window(win_length: int) -> NDArray[np.float64]:
    """Return the periodic Hann window, ``0.5 - 0.5 cos(2πk / win_length)``, read-only."""
    window = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(win_length) / win_length)
    window.flags.writeable = False
    return window


def power_spectra(
    audio: NDArray[np.float32], n_fft: int, win_length: int, hop_length: int
) -> Iterator[tuple[slice, slice, NDArray[np.float32]]]:
    """Yield the power spectra of a batch, block by block.

    Samples are windowed and transformed in float64: a float32 transform leaves rounding noise 140 dB below the
    loudest bin of a frame, which moves quiet bands of real recordings by up to 0.01 dB. It costs 40 % more time.
    Nothing here or after it goes through BLAS, whose sums depend on batch size and threads: a clip's
    features are the same bytes in any batch.

    Parameters
    ----------
    audio
        float32 `(n, samples)`.
    n_fft, win_length, hop_length
        In samples; `n_fft` even and not below `win_length`.

    Yields
    ------
    tuple
        (clips, frames, power): which clips and frames of the batch, and their power `|X|²`, float32
        `(1 + n_fft // 2, k * f)`, the `f` frames of the first clip first. The array is used again for the next block.
    """
    n, samples = audio.shape
    n_frames = samples_to_frames(samples, hop_length)
    block = max(1, BLOCK_SAMPLES // n_fft)
    at_once = max(1, min(n, block // n_frames))
    per_clip = min(n_frames, block)
    bins = 1 + n_fft // 2
    first = (n_fft - win_length) // 2
    window = hann_window(win_length)
    padded = np.zeros((at_once, samples + n_fft), np.float32)
    row, step = padded.strides
    framed = as_strided(padded, (at_once, n_frames, n_fft), (row, hop_length * step, step), writeable=False)
    windowed = np.zeros((at_once, per_clip, n_fft), np.float64)
    squares = np.empty((at_once * per_clip, 2 * bins), np.float32)
    power = np.empty(squares.shape[0] * bins, np.float32)
    for start in range(0, n, at_once):
        clips = slice(start, min(start + at_once, n))
        k = clips.stop - start
        padded[:k, n_fft // 2 : n_fft // 2 + samples] = audio[clips]
        for begin in range(0, n_frames, per_clip):
            frames = slice(begin, min(begin + per_clip, n_frames))
            f = frames.stop - begin
            block_in = windowed[:k, :f]
            np.multiply(
                framed[:k, frames, first : first + win_length], window, out=block_in[..., first : first + win_length]
            )
            spectrum = scipy.fft.rfft(block_in.reshape(k * f, n_fft), axis=-1)
            parts = spectrum.view(np.float64)
            squared = squares[: k * f]
            np.multiply(parts, parts, out=squared, casting="same_kind")
            summed = power[: bins * k * f].reshape(bins, k * f)
            summed[:] = (squared[:, ::2] + squared[:, 1::2]).T
            yield clips, frames, summed
