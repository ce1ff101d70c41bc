"""Spectral gating: turn down what does not stand out from the noise that the clip has when it is quiet.

The noise's spectrum is the mean power of the clip's quietest frames. Each bin of each frame is let through as far as
it stands above that. The mask is smoothed in time and frequency, so that no single bins twitter ("musical noise");
only bins so far above the noise that they cannot be noise open by themselves, which keeps harmonics whole.
Source of the idea: Boll, "Suppression of acoustic noise in speech using spectral subtraction", IEEE Trans. ASSP 27,
1979, and the noise gate of Audacity and of noisereduce (Sainburg et al., PLoS Comput. Biol. 16, 2020).

It works in blocks of frames that fit the cache, so that memory does not grow with the clip beyond its samples.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

import numpy as np
import numpy.typing as npt
import scipy.fft
from pydantic import Field
from scipy.ndimage import uniform_filter1d

from audioml.audio.sound import Sound
from audioml.params import Section
from audioml.units import dbfs_to_amplitude

Floats = npt.NDArray[np.float32]

HOPS = 4
"""A frame is this many hops long: squared Hann windows that far apart add up to a constant."""
OVERLAP_SUM = 1.5
"""That constant: the mean of the squared Hann window is 3/8, and four frames cover a sample."""
BLOCK_FRAMES = 256
NOISE_FRAMES = 2048
"""Of more quiet frames than this, as many are taken evenly."""
QUIET_S = 0.1
"""Frames are called quiet by the energy around them, over this many seconds: chosen one by one, the quietest frames
would be those where noise happens to be low, and coloured noise, which few bins decide, would be underestimated."""
CLEAR_DB = 8.0
"""A bin opens by itself this far above the ratio at which the smoothed mask starts to. With the defaults that is at
11 dB, where noise alone (its power is exponentially distributed) comes once in 300,000 bins."""
SILENT_DBFS = -110.0
"""Digital silence, as editors and codecs put it before and after a recording, is not the recording's noise."""


class Params(Section):
    """How much noise is taken, and how it is told from sound."""

    reduction_db: Annotated[float, Field(ge=0, le=60)] = 12.0
    """By how much noise is turned down; 0 changes nothing."""
    noise_share: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Share of the clip's frames, the quietest, that are taken to be noise alone."""
    threshold_db: Annotated[float, Field(ge=0)] = 6.0
    """What stands this far above the noise is half let through."""
    softness_db: Annotated[float, Field(gt=0)] = 3.0
    """From `threshold_db` less this to `threshold_db` plus this, the mask rises from closed to open."""
    smooth_s: Annotated[float, Field(ge=0)] = 0.04
    """Width of the mask's smoothing in time, in seconds."""
    smooth_hz: Annotated[float, Field(ge=0)] = 100.0
    """Width of the mask's smoothing in frequency, in Hz."""
    frame_s: Annotated[float, Field(gt=0)] = 0.032
    """Length of a frame in seconds, rounded up to a fast Fourier transform; frames are a quarter of it apart."""


def apply(params: Params, sound: Sound) -> Sound:
    """Return the sound with its noise turned down; a clip shorter than a frame, or silent, stays as it is."""
    hop = scipy.fft.next_fast_len(max(1, round(params.frame_s * sound.sample_rate / HOPS)), real=True)
    if sound.samples.size < HOPS * hop:
        return sound
    frames = _frame(sound.samples, hop)
    rate = sound.sample_rate / hop
    quiet = _quietest(frames, params.noise_share, _odd_width(QUIET_S * rate))
    if quiet.size == 0:
        return sound
    noise = _power(_transform(frames[quiet])).mean(axis=0)
    time_width = _odd_width(params.smooth_s * rate)
    bin_width = _odd_width(params.smooth_hz * HOPS * hop / sound.sample_rate)
    summed = np.zeros((len(frames) + HOPS - 1, hop), np.float32)
    for start in range(0, len(frames), BLOCK_FRAMES):
        stop = min(start + BLOCK_FRAMES, len(frames))
        # The mask's smoothing reaches into the neighbouring blocks.
        first, last = max(0, start - time_width), min(stop + time_width, len(frames))
        spectra = _transform(frames[first:last])
        inner = slice(start - first, stop - first)
        gain = _gain(params, _power(spectra), noise, time_width, bin_width)[inner]
        window = _window(HOPS * hop)
        cleaned = scipy.fft.irfft(spectra[inner] * gain, HOPS * hop) * (window / np.float32(OVERLAP_SUM))
        parts = cleaned.reshape(stop - start, HOPS, hop)
        for i in range(HOPS):
            summed[start + i : stop + i] += parts[:, i]
    begin = (HOPS - 1) * hop
    return Sound(summed.reshape(-1)[begin : begin + sound.samples.size], sound.sample_rate, sound.start_s)


def _frame(samples: Floats, hop: int) -> Floats:
    """Return frames ``(n, HOPS * hop)``, a view; the clip is mirrored at its ends, so that each sample is in HOPS."""
    n_frames = -(-samples.size // hop) + HOPS - 1
    before = (HOPS - 1) * hop
    padded = np.pad(samples, (before, (n_frames + HOPS - 1) * hop - before - samples.size), mode="reflect")
    return np.lib.stride_tricks.sliding_window_view(padded, HOPS * hop)[::hop]


def _quietest(frames: Floats, share: float, width: int) -> npt.NDArray[np.int64]:
    """Return the frames with the least energy in `width` frames around, in order; none with digital silence."""
    hop = frames.shape[1] // HOPS
    hops = np.concatenate([frames[:, :hop], frames[-1, hop:].reshape(-1, hop)])
    energy = np.lib.stride_tricks.sliding_window_view(np.einsum("nh,nh->n", hops, hops).astype(np.float64), HOPS)
    sounding = np.flatnonzero(energy.min(axis=1) > hop * dbfs_to_amplitude(SILENT_DBFS) ** 2)
    around = uniform_filter1d(energy.sum(axis=1)[sounding], width, mode="nearest")
    order = np.argsort(around, kind="stable")
    quiet = np.sort(sounding[order[: int(np.ceil(share * sounding.size))]])
    return quiet[:: -(-quiet.size // NOISE_FRAMES)] if quiet.size else quiet


def _gain(params: Params, power: Floats, noise: Floats, time_width: int, bin_width: int) -> Floats:
    """Return the factor of each bin, float32 ``(frames, bins)``."""
    ratio_db = 10 * np.log10((power + np.float32(1e-20)) / (noise + np.float32(1e-20)))
    rise = (ratio_db - (params.threshold_db - params.softness_db)) / (2 * params.softness_db)
    mask = np.clip(rise, 0, 1)
    if bin_width > 1:
        mask = uniform_filter1d(mask, bin_width, axis=1, mode="nearest")
    if time_width > 1:
        mask = uniform_filter1d(mask, time_width, axis=0, mode="nearest")
    mask = np.maximum(mask, np.clip(rise - CLEAR_DB / (2 * params.softness_db), 0, 1))
    return np.exp((mask - 1) * np.float32(params.reduction_db * np.log(10) / 20))


def _transform(frames: Floats) -> npt.NDArray[np.complex64]:
    spectra: npt.NDArray[np.complex64] = scipy.fft.rfft(frames * _window(frames.shape[1]))
    return spectra


def _power(spectra: npt.NDArray[np.complex64]) -> Floats:
    return np.square(spectra.real) + np.square(spectra.imag)


@lru_cache(maxsize=32)
def _window(length: int) -> Floats:
    """Return the periodic Hann window, read-only."""
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)
    window.setflags(write=False)
    return window


def _odd_width(width: float) -> int:
    return 2 * round(max(0.0, width - 1) / 2) + 1
