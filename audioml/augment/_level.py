"""How loud clips are to people: A-weighted levels."""

from __future__ import annotations

import torch
from torch import Tensor

from audioml.augment._clips import fast_length, transform_back

FRAME_S = 0.1
"""A clip is as loud as its loudest tenth of a second."""
MIN_LEVEL_DB = -120.0


def a_weighting(frequency: Tensor) -> Tensor:
    """Return the amplitude response of the A-weighting at frequencies in Hz, 1 at 1 kHz (IEC 61672-1, annex E)."""
    f2 = frequency.double().square()
    curve = 12194.0**2 * f2.square()
    curve = curve / ((f2 + 20.6**2) * ((f2 + 107.7**2) * (f2 + 737.9**2)).sqrt() * (f2 + 12194.0**2))
    return (curve * 10 ** (2.0 / 20)).float()


def measure_levels(audio: Tensor, sample_rate: int) -> Tensor:
    """Return the A-weighted level (n,) in dB of full scale of the loudest 100 ms of each clip (n, samples)."""
    n, n_samples = audio.shape
    length = fast_length(n_samples)
    response = a_weighting(torch.fft.rfftfreq(length, 1 / sample_rate)).to(audio)
    weighted = transform_back(torch.fft.rfft(audio, length) * response, length, n_samples)
    half = max(1, round(FRAME_S * sample_rate / 2))
    halves = torch.nn.functional.pad(weighted, (0, -n_samples % half + half)).reshape(n, -1, half).square().sum(dim=2)
    power = (halves[:, :-1] + halves[:, 1:]).amax(dim=1) / (2 * half)
    return (10 * torch.log10(power.clamp_min(10 ** (MIN_LEVEL_DB / 10)))).float()
