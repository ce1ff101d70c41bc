"""Levels and faults of a recording, measured on its decoded samples."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from audioml.units import amplitude_to_dbfs, dbfs_to_amplitude, samples_to_seconds, seconds_to_samples

FULL_SCALE = 32767 / 32768
"""A sample at or above this is clipped: the largest value of 16-bit PCM."""
FRAME_S = 0.025
"""Length of the frames, side by side, that are called silent or not."""
SILENT_DBFS = -60.0
"""A frame whose RMS level over all channels is below this is silent."""


@dataclass(frozen=True)
class AudioStats:
    """What the manifest says of a clip's sound. Levels are relative to full scale, not below `SILENCE_DBFS`."""

    duration_s: float
    peak_dbfs: float
    rms_dbfs: float
    dc_offset: float
    """Mean over samples and channels, in units of full scale."""
    clipped_share: float
    """Share of samples at full scale."""
    silent_share: float
    """Share of 25 ms frames below -60 dBFS."""


def measure_audio(audio: npt.NDArray[np.float32], sample_rate: int) -> AudioStats:
    """Measure decoded audio.

    Parameters
    ----------
    audio
        float32 ``(channels, samples)``, at least one sample, all finite.
    sample_rate
        In Hz.
    """
    channels, n_samples = audio.shape
    # Ufuncs called straight: on short clips numpy's methods around them cost more than the sums.
    flat = audio.reshape(-1)
    peak = max(float(np.maximum.reduce(flat)), -float(np.minimum.reduce(flat)), 0.0)
    clipped = np.count_nonzero(np.abs(flat) >= FULL_SCALE) / flat.size if peak >= FULL_SCALE else 0.0

    # A frame's squares are summed in float32, frames in double precision; the last may be shorter than the others.
    frame_length = max(1, seconds_to_samples(FRAME_S, sample_rate))
    n_whole, n_rest = divmod(n_samples, frame_length)
    framed = audio[:, : n_samples - n_rest].reshape(channels, n_whole, frame_length)
    energy = np.einsum("cnf,cnf->n", framed, framed)
    energy_sum = float(np.add.reduce(energy, dtype=np.float64))
    silent_energy = dbfs_to_amplitude(SILENT_DBFS) ** 2 * channels
    n_silent = np.count_nonzero(energy < silent_energy * frame_length)
    if n_rest:
        rest = audio[:, -n_rest:]
        rest_energy = float(np.einsum("cf,cf->", rest, rest))
        energy_sum += rest_energy
        n_silent += rest_energy < silent_energy * n_rest

    return AudioStats(
        duration_s=samples_to_seconds(n_samples, sample_rate),
        peak_dbfs=amplitude_to_dbfs(peak),
        rms_dbfs=amplitude_to_dbfs(math.sqrt(energy_sum / flat.size)),
        dc_offset=float(np.add.reduce(flat, dtype=np.float64)) / flat.size,
        clipped_share=clipped,
        silent_share=n_silent / (n_whole + (n_rest > 0)),
    )
