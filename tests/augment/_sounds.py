"""What the tests of augmentations of waveforms share."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from audioml.params import Section

RATE = 16000


def run(plugin: ModuleType, params: Section, audio: Tensor, seed: int = 0, rate: int = RATE) -> Tensor:
    """Apply a plug-in that leaves targets as they are."""
    targets = torch.eye(len(audio))
    changed, after = plugin.apply_audio(params, audio, targets, torch.Generator().manual_seed(seed), rate)
    assert torch.equal(targets, after)
    return changed


def make_noise(n: int, n_samples: int = RATE, seed: int = 9) -> Tensor:
    return 0.1 * torch.randn(n, n_samples, generator=torch.Generator().manual_seed(seed))


def make_sines(frequencies_hz: list[float], n_samples: int = RATE, rate: int = RATE) -> Tensor:
    time_s = torch.arange(n_samples, dtype=torch.float64) / rate
    return torch.stack([0.5 * torch.sin(2 * np.pi * f * time_s) for f in frequencies_hz]).float()


def level_db(audio: Tensor) -> Tensor:
    return 10 * torch.log10(audio.double().square().mean(dim=1))


def peak_hz(audio: Tensor, rate: int = RATE) -> Tensor:
    """The frequency of the strongest part of each clip, from a windowed spectrum by parabolic interpolation."""
    spectrum = torch.fft.rfft(
        audio.double() * torch.hann_window(audio.shape[1], dtype=torch.float64), 4 * audio.shape[1]
    )
    size = spectrum.abs().log()
    top = size.argmax(dim=1)
    left, middle, right = (size.gather(1, (top + k).unsqueeze(1)).squeeze(1) for k in (-1, 0, 1))
    return (top + 0.5 * (left - right) / (left - 2 * middle + right)) * rate / (4 * audio.shape[1])
