"""Conversions between seconds, samples, frames and decibels, each in one place."""

from __future__ import annotations

import math

SILENCE_DBFS = -120.0
"""Floor for levels in dBFS: below the quantisation noise of 16-bit audio (-98 dBFS)."""


def seconds_to_samples(duration_s: float, sample_rate: int) -> int:
    """Return the whole number of samples nearest to `duration_s` (half rounds up)."""
    return math.floor(duration_s * sample_rate + 0.5)


def samples_to_seconds(n_samples: int, sample_rate: int) -> float:
    """Return the duration in seconds of `n_samples` samples."""
    return n_samples / sample_rate


def samples_to_frames(n_samples: int, hop_length: int) -> int:
    """Return the number of frames of a centred STFT (librosa ``center=True``)."""
    return 1 + n_samples // hop_length


def amplitude_to_dbfs(amplitude: float) -> float:
    """Return the level in dB relative to full scale (amplitude 1.0), not below `SILENCE_DBFS`."""
    if amplitude <= 10 ** (SILENCE_DBFS / 20):
        return SILENCE_DBFS
    return 20.0 * math.log10(amplitude)


def dbfs_to_amplitude(level_dbfs: float) -> float:
    """Return the amplitude (full scale = 1.0) of a level in dBFS."""
    return float(10 ** (level_dbfs / 20))
