"""The condition that audio reaches a model in: level, noise floor, clipping, bandwidth. What drift is measured by.

The same numbers of training clips and of what a server hears. Cheap, whatever the length: spectra are of so many
frames, spread evenly over the recording.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.fft import rfft

from audioml.audio.stats import FRAME_S, measure_audio
from audioml.units import amplitude_to_dbfs

MAX_FRAMES = 200
"""Whose spectra are looked at."""
NOISE_QUANTILE = 0.1
"""Share of frames that are not louder than the noise floor: pauses, in speech, and the background in all else."""
BANDWIDTH_SHARE = 0.99
"""Of the energy, that lies below the bandwidth (the spectral roll-off: Scheirer and Slaney, ICASSP 1997)."""


@dataclass(frozen=True)
class Condition:
    """The condition of one recording. Levels are relative to full scale, not below `SILENCE_DBFS`."""

    rms_dbfs: float
    peak_dbfs: float
    noise_dbfs: float
    """Level that the quietest tenth of the frames does not exceed, without DC."""
    clipped_share: float
    """Share of samples at full scale."""
    silent_share: float
    """Share of 25 ms frames below -60 dBFS."""
    bandwidth_hz: float
    """Frequency below which 99 % of the energy lies; 0 of digital silence."""


def measure_condition(audio: npt.NDArray[np.float32], sample_rate: int) -> Condition:
    """Measure decoded audio.

    Parameters
    ----------
    audio
        float32 ``(channels, samples)``, at least one sample, all finite.
    sample_rate
        In Hz.
    """
    stats = measure_audio(audio, sample_rate)
    frames = _take_frames(audio, sample_rate)
    length = frames.shape[1]
    window, energy = _make_window(length)
    spectra = rfft(frames * window, axis=1)
    power = spectra.real**2 + spectra.imag**2
    # DC, and what the window makes of it, is the recorder's and no sound.
    power[:, :2] = 0.0
    # Parseval: the mean square of a frame, of a spectrum with one side, without what the window takes.
    levels = np.sort(2 * power.sum(axis=1, dtype=np.float64) / (length * energy))
    total = np.cumsum(power.sum(axis=0, dtype=np.float64))
    rolloff = int(np.searchsorted(total, BANDWIDTH_SHARE * total[-1])) if total[-1] > 0 else 0
    return Condition(
        rms_dbfs=stats.rms_dbfs,
        peak_dbfs=stats.peak_dbfs,
        noise_dbfs=amplitude_to_dbfs(float(np.sqrt(levels[int(NOISE_QUANTILE * len(levels))]))),
        clipped_share=stats.clipped_share,
        silent_share=float(stats.silent_share),
        bandwidth_hz=rolloff * sample_rate / length,
    )


@lru_cache(maxsize=16)
def _make_window(length: int) -> tuple[npt.NDArray[np.float32], float]:
    """Return a Hann window and the sum of its squares."""
    window = np.hanning(length + 1)[:-1].astype(np.float32)
    return window, float((window**2).sum())


def _take_frames(audio: npt.NDArray[np.float32], sample_rate: int) -> npt.NDArray[np.float32]:
    """Return frames of the channels' mean, ``(frames, length)``, spread evenly; a short recording is one, padded."""
    length = 1 << int(np.ceil(np.log2(max(4.0, FRAME_S * sample_rate))))
    n_samples = audio.shape[1]
    starts = np.linspace(0, max(0, n_samples - length), min(MAX_FRAMES, max(1, n_samples // length))).astype(np.int64)
    if n_samples < length:
        audio = np.pad(audio, ((0, 0), (0, length - n_samples)))
    frames = np.lib.stride_tricks.sliding_window_view(audio, length, axis=1)[:, starts]
    mono: npt.NDArray[np.float32] = frames[0] if len(audio) == 1 else frames.mean(axis=0, dtype=np.float32)
    return mono
