"""Shift the pitch of clips at the same tempo, as other voices and other sizes of a source do; formants move with it.

A clip is stretched by WSOLA, then played faster or slower by as much. For training: Salamon and Bello, "Deep
convolutional neural networks and data augmentation for environmental sound classification", 2017 (arXiv 1608.04363).
"""

from __future__ import annotations

import math
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from audioml.augment._clips import ClipShare, change_clips, check_order, choose_clips, draw_uniform
from audioml.augment._time import change_speed, stretch_time
from audioml.params import Section


class Params(Section):
    """How far."""

    min_semitones: Annotated[float, Field(ge=-12, le=12)] = -2.0
    """Furthest down; twelve make an octave."""
    max_semitones: Annotated[float, Field(ge=-12, le=12)] = 2.0
    """Furthest up; each clip draws its own shift, uniformly."""
    share: ClipShare = 0.5
    """Share of clips that are changed."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        return check_order(self, "min_semitones", "max_semitones")


def apply_audio(
    params: Params, audio: Tensor, targets: Tensor, generator: torch.Generator, sample_rate: int
) -> tuple[Tensor, Tensor]:
    """Return audio (n, samples), each chosen clip at its pitch; targets stay."""
    chosen = choose_clips(len(audio), params.share, generator)
    factors = 2 ** (draw_uniform(len(chosen), params.min_semitones, params.max_semitones, generator) / 12)
    n_stretched = math.ceil(audio.shape[1] * max(1.0, 2 ** (params.max_semitones / 12)))

    def shift(clips: Tensor) -> Tensor:
        return change_speed(stretch_time(clips, 1 / factors, n_stretched, sample_rate), factors, clips.shape[1])

    return change_clips(audio, chosen, shift), targets
