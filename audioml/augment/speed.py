"""Play clips faster or slower, pitch and all.

Source: Ko et al., "Audio augmentation for speech recognition", Interspeech 2015. The middle of a clip stays where it
is; a faster one stands between zeros, of a slower one the ends are cut.
"""

from __future__ import annotations

from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from audioml.augment._clips import ClipShare, change_clips, check_order, choose_clips, draw_uniform
from audioml.augment._time import change_speed, follow_targets
from audioml.params import Section


class Params(Section):
    """How fast."""

    min_factor: Annotated[float, Field(ge=0.25, le=4)] = 0.9
    """Slowest, as a multiple of the clip's own speed."""
    max_factor: Annotated[float, Field(ge=0.25, le=4)] = 1.1
    """Fastest; each clip draws its own, uniformly."""
    share: ClipShare = 0.5
    """Share of clips that are changed."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        return check_order(self, "min_factor", "max_factor")


def apply_audio(
    params: Params, audio: Tensor, targets: Tensor, generator: torch.Generator, sample_rate: int
) -> tuple[Tensor, Tensor]:
    """Return audio (n, samples), each chosen clip at its speed; targets along time go with it, others stay."""
    chosen = choose_clips(len(audio), params.share, generator)
    factors = draw_uniform(len(chosen), params.min_factor, params.max_factor, generator)
    changed = change_clips(audio, chosen, lambda clips: change_speed(clips, factors, clips.shape[1]))
    return changed, follow_targets(targets, chosen, factors)
