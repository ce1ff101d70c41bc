"""Decoded audio to the windows that features are made of: one way for training, evaluation and serving."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from audioml.audio.resample import resample
from audioml.audio.segment import cut_windows, fit_length
from audioml.params import FeatureParams
from audioml.units import seconds_to_samples


def prepare_audio(
    audio: npt.NDArray[np.float32], sample_rate: int, params: FeatureParams
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Mix to mono, resample, remove DC and bring to windows of one length.

    Parameters
    ----------
    audio
        float32 ``(channels, samples)``.
    sample_rate
        Of `audio`, in Hz.
    params
        The features' section: target rate, length and how it is reached.

    Returns
    -------
    windows
        float32 ``(windows, samples)`` at ``params.sample_rate``; at least one.
    offsets_s
        float64 ``(windows,)``: where each window starts in the clip, in seconds; negative where zeros were
        put before a short clip.

    Raises
    ------
    ValueError
        When `audio` has not two dimensions.
    """
    if audio.ndim != 2:
        raise ValueError(f"audio must be (channels, samples), but has shape {audio.shape}; for mono use audio[None]")
    mono = remove_dc(resample(mix_to_mono(audio), sample_rate, params.sample_rate), params.remove_dc)
    n_samples = max(1, seconds_to_samples(params.duration_s, params.sample_rate))
    if params.length == "pad":
        windows, starts = fit_length(mono, n_samples)
    else:
        hop_s = params.segment_hop_s or params.duration_s / 2
        windows, starts = cut_windows(mono, n_samples, max(1, seconds_to_samples(hop_s, params.sample_rate)))
    return windows, starts / params.sample_rate


def mix_to_mono(audio: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the mean over channels: ``(channels, samples)`` to ``(samples,)``."""
    if len(audio) == 1:
        mono: npt.NDArray[np.float32] = audio[0]
    else:
        mono = audio.mean(axis=0, dtype=np.float32)
    return mono


def remove_dc(audio: npt.NDArray[np.float32], enabled: bool = True) -> npt.NDArray[np.float32]:
    """Subtract the clip's mean, summed in double precision."""
    if not enabled or audio.size == 0:
        return audio
    centred: npt.NDArray[np.float32] = audio - np.float32(audio.mean(dtype=np.float64))
    return centred
