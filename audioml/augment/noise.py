"""Add noise at a drawn signal-to-noise ratio: coloured noise, or a babble of the batch's other clips.

Colours are made in the frequency domain (Timmer and König, "On generating power law noise", 1995). Training with noise
at many ratios: Lippmann, Martin and Paul, "Multi-style training for robust isolated-word speech recognition", ICASSP
1987.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from audioml.audio.noise import COLOURS
from audioml.augment._clips import (
    ClipShare,
    add_noise,
    change_clips,
    check_order,
    choose_clips,
    draw_uniform,
    fast_length,
    transform_back,
)
from audioml.params import Section

BABBLE = "babble"
LOWEST_HZ = 20.0
"""Coloured noise has nothing below: most of brown noise's power would be there, where nobody hears it."""


class Params(Section):
    """Which noise, and how loud."""

    kinds: Annotated[tuple[Literal["white", "pink", "brown", "babble"], ...], Field(min_length=1)] = (
        "white",
        "pink",
        "brown",
    )
    """white, pink (-3 dB an octave), brown (-6 dB an octave) or babble (other clips of the batch), drawn by clip."""
    min_snr_db: float = 0.0
    """Smallest ratio of a clip's level, its digital silence left out, to that of the noise, in dB."""
    max_snr_db: float = 30.0
    """Largest ratio; each clip draws its own, uniformly in dB."""
    babble_clips: Annotated[int, Field(ge=1)] = 3
    """Clips that make up a babble, each from a drawn point on and around its end."""
    share: ClipShare = 0.5
    """Share of clips that are changed."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        return check_order(self, "min_snr_db", "max_snr_db")


def apply_audio(
    params: Params, audio: Tensor, targets: Tensor, generator: torch.Generator, sample_rate: int
) -> tuple[Tensor, Tensor]:
    """Return audio (n, samples), each chosen clip with its noise; targets stay."""
    chosen = choose_clips(len(audio), params.share, generator)
    snr_db = draw_uniform(len(chosen), params.min_snr_db, params.max_snr_db, generator).unsqueeze(1).to(audio)
    kind_of = torch.randint(len(params.kinds), (len(chosen),), generator=generator)
    noise = audio.new_zeros(len(chosen), audio.shape[1])
    for i, kind in enumerate(params.kinds):
        rows = torch.nonzero(kind_of == i).flatten()
        if kind == BABBLE:
            made = _mix_babble(audio, chosen[rows], params.babble_clips, generator)
        else:
            made = _make_colour(len(rows), audio.shape[1], COLOURS[kind], generator, sample_rate)
        noise[rows.to(audio.device)] = made.to(audio)
    return change_clips(audio, chosen, lambda clips: add_noise(clips, noise, snr_db)), targets


def _make_colour(n: int, n_samples: int, exponent: float, generator: torch.Generator, sample_rate: int) -> Tensor:
    """Return Gaussian noise (n, n_samples) whose amplitude falls with frequency by this exponent."""
    if exponent == 0 or not n:
        return torch.randn(n, n_samples, generator=generator)
    length = fast_length(n_samples)
    frequency = torch.fft.rfftfreq(length, 1 / sample_rate)
    amplitude = torch.where(frequency < LOWEST_HZ, 0.0, frequency.clamp_min(LOWEST_HZ) ** -exponent)
    spectrum = torch.randn(n, len(frequency), 2, generator=generator) * amplitude.unsqueeze(1)
    return transform_back(torch.view_as_complex(spectrum), length, n_samples)


def _mix_babble(audio: Tensor, rows: Tensor, n_clips: int, generator: torch.Generator) -> Tensor:
    """Return the sum of other clips (n, samples), each turned around by a drawn number of samples."""
    n, n_samples = audio.shape
    others = (rows.unsqueeze(1) + torch.randint(1, max(2, n), (len(rows), n_clips), generator=generator)) % n
    starts = torch.randint(n_samples, (len(rows), n_clips, 1), generator=generator).to(audio.device)
    position = (torch.arange(n_samples, device=audio.device) + starts) % n_samples
    return audio[others.to(audio.device)].gather(2, position).sum(dim=1)
