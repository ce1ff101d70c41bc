"""What augmentations of waveforms share: which clips they change, what they draw, how loud a clip is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import scipy.fft
import torch
from pydantic import Field
from torch import Tensor

from audioml.params import Section

SILENCE = 1e-4
"""Of a clip's peak: what a Fourier transform leaves of zeros is below."""
MIN_RMS = 1e-12
ClipShare = Annotated[float, Field(ge=0, le=1)]
S = TypeVar("S", bound=Section)


def check_order(section: S, low: str, high: str) -> S:
    """Return a section whose key `low` is not above its key `high`.

    Raises
    ------
    ValueError
        When it is; pydantic makes it an error of the section.
    """
    first, last = getattr(section, low), getattr(section, high)
    if first > last:
        raise ValueError(f"{low} {first:g} is more than {high} {last:g}; lower it or raise {high}")
    return section


def choose_clips(n: int, share: float, generator: torch.Generator) -> Tensor:
    """Return the positions of the clips that are changed, each with the probability `share`: int64 (m,), on the CPU."""
    return torch.nonzero(torch.rand(n, generator=generator) < share).flatten()


def draw_uniform(n: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Return float32 (n,) between two numbers."""
    return low + (high - low) * torch.rand(n, generator=generator)


def change_clips(audio: Tensor, chosen: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return audio (n, samples) with the clips at some positions (m,) changed by a function of them, (m, samples)."""
    if not len(chosen):
        return audio
    at = chosen.to(audio.device)
    return audio.index_copy(0, at, change(audio[at]))


def measure_rms(audio: Tensor) -> Tensor:
    """Return the RMS of each clip (n, 1) over its samples that are not silent: padding makes no clip quieter."""
    size = audio.abs()
    count = (size > SILENCE * size.amax(dim=1, keepdim=True)).sum(dim=1, keepdim=True).clamp_min(1)
    return (audio.square().sum(dim=1, keepdim=True) / count).sqrt()


def find_extent(clips: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first sample of each clip (n, samples) that is not silent, and the one after the last: int64 (n,).

    Both are 0 where all are silent.
    """
    sounds = (clips.abs() > SILENCE * clips.abs().amax(dim=1, keepdim=True)).int()
    any_sound = sounds.amax(dim=1) if clips.shape[1] else sounds.sum(dim=1)
    return sounds.argmax(dim=1), (clips.shape[1] - sounds.flip(1).argmax(dim=1)) * any_sound


def add_noise(clips: Tensor, noise: Tensor, snr_db: Tensor) -> Tensor:
    """Return clips (m, samples) that stand above their noise (m, samples) by these ratios (m, 1).

    The silence that a clip is padded with stays silent, as it does where a noisy recording is padded.
    """
    start, stop = (bound.unsqueeze(1) for bound in find_extent(clips))
    position = torch.arange(clips.shape[1], device=clips.device)
    within = ((position >= start) & (position < stop)).to(noise)
    power = (noise.square() * within).sum(dim=1, keepdim=True) / within.sum(dim=1, keepdim=True).clamp_min(1)
    return clips + noise * within * (measure_rms(clips) / power.sqrt().clamp_min(MIN_RMS) * 10 ** (-snr_db / 20))


def transform_back(spectrum: Tensor, length: int, n_samples: int) -> Tensor:
    """Return the first samples (n, n_samples) of signals of a length, from their real Fourier transforms."""
    signals: Tensor = torch.fft.irfft(spectrum, length)
    return signals[:, :n_samples]


def fast_length(n: int) -> int:
    """Return the next length from `n` on that a real Fourier transform takes quickly."""
    return int(scipy.fft.next_fast_len(n, real=True))
