"""Shift each clip in time; what comes in from outside repeats the edge frame, nothing wraps around."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from audioml.params import Section


class Params(Section):
    """How far a clip is moved."""

    max_shift_share: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Largest shift to either side, as a share of the frames; each clip draws its own, uniformly."""


def apply(params: Params, features: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return features (n, bins, frames) with each clip shifted by whole frames; targets stay."""
    n, bins, frames = features.shape
    most = round(params.max_shift_share * frames)
    shifts = torch.randint(-most, most + 1, (n, 1), generator=generator)
    source = (torch.arange(frames) - shifts).clamp(0, frames - 1).to(features.device)
    return features.gather(2, source.unsqueeze(1).expand(n, bins, frames)), targets
