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
    peak = max(float(audio.max()), -float(audio.min()), 0.0)
    frame_length = max(1, seconds_to_samples(FRAME_S, sample_rate))
    frame_power = _frame_power(audio, frame_length)
    power = _mean_square(audio)
    clipped = np.count_nonzero(np.abs(audio) >= FULL_SCALE) / audio.size if peak >= FULL_SCALE else 0.0
    return AudioStats(
        duration_s=samples_to_seconds(audio.shape[1], sample_rate),
        peak_dbfs=amplitude_to_dbfs(peak),
        rms_dbfs=amplitude_to_dbfs(math.sqrt(power)),
        dc_offset=float(audio.mean(dtype=np.float64)),
        clipped_share=float(clipped),
        silent_share=float(np.mean(frame_power < dbfs_to_amplitude(SILENT_DBFS) ** 2)),
    )


def _frame_power(audio: npt.NDArray[np.float32], frame_length: int) -> npt.NDArray[np.float64]:
    """Return the mean square of each frame; the last may be shorter than the others."""
    channels, n_samples = audio.shape
    n_whole = n_samples // frame_length
    framed = audio[:, : n_whole * frame_length].reshape(channels, n_whole, frame_length)
    power = np.einsum("cnf,cnf->n", framed, framed).astype(np.float64) / (channels * frame_length)
    rest = audio[:, n_whole * frame_length :]
    return np.append(power, _mean_square(rest)) if rest.size else power


def _mean_square(audio: npt.NDArray[np.float32]) -> float:
    """Mean of squares; float32 products summed in blocks, blocks in double precision."""
    flat = np.ascontiguousarray(audio).reshape(-1)
    starts = np.arange(0, flat.size, 1 << 14)
    sums = np.add.reduceat(np.square(flat), starts)
    return float(sums.sum(dtype=np.float64)) / flat.size
