"""Make clips faster or slower at the same pitch, as people speak and machines run.

WSOLA (Verhelst and Roelands, ICASSP 1993), which keeps transients. For training: Salamon and Bello, "Deep convolutional
neural networks and data augmentation for environmental sound classification", 2017 (arXiv 1608.04363). The middle of a
clip stays where it is; a faster one stands between zeros, of a slower one the ends are cut.
"""

from __future__ import annotations

from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from audioml.augment._clips import ClipShare, change_clips, check_order, choose_clips, draw_uniform
from audioml.augment._time import follow_targets, stretch_time
from audioml.params import Section


class Params(Section):
    """How fast."""

    min_rate: Annotated[float, Field(ge=0.5, le=2)] = 0.8
    """Slowest, as a multiple of the clip's own tempo."""
    max_rate: Annotated[float, Field(ge=0.5, le=2)] = 1.25
    """Fastest; each clip draws its own, uniformly."""
    share: ClipShare = 0.5
    """Share of clips that are changed."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        return check_order(self, "min_rate", "max_rate")


def apply_audio(
    params: Params, audio: Tensor, targets: Tensor, generator: torch.Generator, sample_rate: int
) -> tuple[Tensor, Tensor]:
    """Return audio (n, samples), each chosen clip at its tempo; targets along time go with it, others stay."""
    chosen = choose_clips(len(audio), params.share, generator)
    rates = draw_uniform(len(chosen), params.min_rate, params.max_rate, generator)
    changed = change_clips(audio, chosen, lambda clips: stretch_time(clips, rates, clips.shape[1], sample_rate))
    return changed, follow_targets(targets, chosen, rates)
