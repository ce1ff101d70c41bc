"""Decoded audio to the windows that features are made of: one way for training, evaluation and serving."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from audioml.audio.resample import resample
from audioml.audio.segment import cut_windows, fit_length
from audioml.audio.sound import Sound
from audioml.params import FeatureParams
from audioml.units import seconds_to_samples


def prepare_audio(
    audio: npt.NDArray[np.float32], sample_rate: int, params: FeatureParams, chain: Sequence[Callable[[Sound], Sound]]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Mix to mono, clean, resample and bring to windows of one length.

    Parameters
    ----------
    audio
        float32 ``(channels, samples)``.
    sample_rate
        Of `audio`, in Hz.
    params
        The features' section: target rate, length and how it is reached.
    chain
        What cleans the clip, in order, at its own rate: see `audioml.clean._chain.load_chain`.

    Returns
    -------
    windows
        float32 ``(windows, samples)`` at ``params.sample_rate``; at least one, of at least one sample.
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
    sound = Sound(mix_to_mono(audio), sample_rate)
    for clean in chain:
        sound = clean(sound)
    mono = resample(sound.samples, sound.sample_rate, params.sample_rate)
    n_samples = max(1, seconds_to_samples(params.duration_s, params.sample_rate))
    if params.length == "whole":
        windows, starts = fit_length(mono, max(1, len(mono)))
    elif params.length == "pad":
        windows, starts = fit_length(mono, n_samples)
    else:
        hop_s = params.segment_hop_s or params.duration_s / 2
        windows, starts = cut_windows(mono, n_samples, max(1, seconds_to_samples(hop_s, params.sample_rate)))
    return windows, starts / params.sample_rate + sound.start_s


def mix_to_mono(audio: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return the mean over channels: ``(channels, samples)`` to ``(samples,)``."""
    if len(audio) == 1:
        mono: npt.NDArray[np.float32] = audio[0]
    else:
        mono = audio.mean(axis=0, dtype=np.float32)
    return mono
