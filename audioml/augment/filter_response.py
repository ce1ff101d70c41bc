"""Filter clips by random smooth frequency responses, as other microphones and rooms do.

Gains in dB are drawn at frequencies evenly spread over the octaves, and joined by cosines. Source: Nam, Kim and Park,
"FilterAugment: An Acoustic Environmental Data Augmentation Method", ICASSP 2022 (arXiv 2110.03282), here on waveforms.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from audioml.augment._clips import ClipShare, change_clips, choose_clips, draw_uniform, fast_length, transform_back
from audioml.params import Section

LOWEST_HZ = 50.0
"""The response is constant below."""
TAIL_S = 0.05
"""What a response may ring on for."""


class Params(Section):
    """How uneven a response is."""

    max_db: Annotated[float, Field(ge=0)] = 8.0
    """Largest gain or attenuation, in dB; each point draws its own, uniformly."""
    points: Annotated[int, Field(ge=2)] = 6
    """Where gains are drawn, from 50 Hz to half the sample rate."""
    share: ClipShare = 0.5
    """Share of clips that are changed."""


def apply_audio(
    params: Params, audio: Tensor, targets: Tensor, generator: torch.Generator, sample_rate: int
) -> tuple[Tensor, Tensor]:
    """Return audio (n, samples), each chosen clip filtered without delay; targets stay."""
    chosen = choose_clips(len(audio), params.share, generator)
    gains_db = draw_uniform(len(chosen) * params.points, -params.max_db, params.max_db, generator)
    length = fast_length(audio.shape[1] + math.ceil(TAIL_S * sample_rate))
    responses = make_responses(gains_db.reshape(-1, params.points), length, sample_rate).to(audio)

    def filter_clips(clips: Tensor) -> Tensor:
        return transform_back(torch.fft.rfft(clips, length) * responses, length, clips.shape[1])

    return change_clips(audio, chosen, filter_clips), targets


def make_responses(gains_db: Tensor, length: int, sample_rate: int) -> Tensor:
    """Return the gains (m, 1 + length // 2) of the bins of a real Fourier transform, from gains in dB (m, points)."""
    points = gains_db.shape[1]
    octaves = math.log2(sample_rate / 2 / LOWEST_HZ)
    frequency = torch.fft.rfftfreq(length, 1 / sample_rate).clamp_min(LOWEST_HZ)
    place = (torch.log2(frequency / LOWEST_HZ) / octaves * (points - 1)).clamp(0, points - 1)
    left = place.long().clamp_max(points - 2)
    weight = 0.5 - 0.5 * torch.cos(math.pi * (place - left))
    curve_db: Tensor = (1 - weight) * gains_db[:, left] + weight * gains_db[:, left + 1]
    return 10 ** (curve_db / 20)
