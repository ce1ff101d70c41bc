"""Make clips louder or quieter, as a nearer or farther speaker and another recording level do."""

from __future__ import annotations

from typing import Self

import torch
from pydantic import model_validator
from torch import Tensor

from audioml.augment._clips import ClipShare, change_clips, check_order, choose_clips, draw_uniform
from audioml.params import Section


class Params(Section):
    """How much louder or quieter."""

    min_db: float = -10.0
    """Smallest gain in dB."""
    max_db: float = 10.0
    """Largest gain in dB; nothing is clipped. Each clip draws its own, uniformly."""
    share: ClipShare = 1.0
    """Share of clips that are changed."""

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        return check_order(self, "min_db", "max_db")


def apply_audio(
    params: Params, audio: Tensor, targets: Tensor, generator: torch.Generator, sample_rate: int
) -> tuple[Tensor, Tensor]:
    """Return audio (n, samples), each chosen clip times its gain; targets stay."""
    chosen = choose_clips(len(audio), params.share, generator)
    gains_db = draw_uniform(len(chosen), params.min_db, params.max_db, generator)
    gains = (10 ** (gains_db / 20)).unsqueeze(1).to(audio)
    return change_clips(audio, chosen, lambda clips: gains * clips), targets
