"""Log-mel spectra in torch, for a GPU: the formulas of `_stft` and `_mel`.

In float64 until the levels are there: a GPU waits for the decoder either way, and what differs from the CPU's
features is the CPU's rounding alone.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioml.features._mel import AMIN, MelParams, mel_filters
from audioml.features._stft import hann_window
from audioml.units import samples_to_frames

SPECTRA_BYTES = 1 << 29
"""Bound on the spectra that are on the device at once."""


def log_mel_torch(params: MelParams, audio: Tensor) -> Tensor:
    """Return what `audioml.features._mel.log_mel` writes: float32 `(n, n_mels, frames)` in dB, on the same device.

    Parameters
    ----------
    params
        The transform and the bands.
    audio
        float32 `(n, samples)` in [-1, 1].
    """
    n, n_samples = audio.shape
    n_frames = samples_to_frames(n_samples, params.hop_length)
    levels = torch.empty((n, params.n_mels, n_frames), dtype=torch.float32, device=audio.device)
    filters = to_tensor(
        mel_filters(params.sample_rate, params.n_fft, params.n_mels, params.fmin, params.fmax_hz), audio
    )
    window = to_tensor(hann_window(params.win_length), audio)
    at_once = max(1, SPECTRA_BYTES // (16 * (1 + params.n_fft // 2) * n_frames))
    for start in range(0, n, at_once):
        spectrum = torch.stft(
            audio[start : start + at_once].double(),
            params.n_fft,
            params.hop_length,
            params.win_length,
            window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )
        power = filters @ torch.view_as_real(spectrum).square().sum(dim=-1)
        levels[start : start + at_once] = 10.0 * torch.log10(power.clamp_min(AMIN))
    if params.top_db is not None and n:
        levels = torch.maximum(levels, levels.amax(dim=(1, 2), keepdim=True) - params.top_db)
    if params.subtract_mean and n:
        levels = _subtract_mean(levels)
    return levels


def _subtract_mean(levels: Tensor) -> Tensor:
    """Return levels (n, bands, frames) without each band's mean, as `audioml.features._mel` takes it."""
    weights = (levels - levels.amin(dim=2, keepdim=True)).mean(dim=1, keepdim=True, dtype=torch.float64)
    total = weights.sum(dim=2, keepdim=True)
    # A window without sound is of one level in each band, which any weights find.
    weights = torch.where(total > 0, weights / total, 1.0 / levels.shape[2])
    return levels - (levels * weights).sum(dim=2, keepdim=True).float()


def to_tensor(values: NDArray[np.floating], like: Tensor) -> Tensor:
    """Return an array as a float64 tensor on the device of another."""
    return torch.from_numpy(np.array(values, np.float64)).to(like.device)
