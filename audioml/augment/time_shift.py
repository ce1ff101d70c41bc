"""Shift each clip in time; what comes in from outside repeats the edge frame, nothing wraps around.

Targets along time are shifted as well.
"""

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
    """Return features (n, bins, frames) with each clip shifted by whole frames; targets (n, labels) stay.

    Targets (n, labels, steps) are shifted by the nearest number of steps.
    """
    n, _, frames = features.shape
    most = round(params.max_shift_share * frames)
    shifts = torch.randint(-most, most + 1, (n, 1), generator=generator)
    if targets.ndim == 3:
        targets = _shift(targets, (shifts * targets.shape[2] / frames).round().long())
    return _shift(features, shifts), targets


def _shift(values: Tensor, shifts: Tensor) -> Tensor:
    """Return (n, rows, frames) with each element moved by its own of the shifts (n, 1)."""
    n, rows, frames = values.shape
    source = (torch.arange(frames) - shifts).clamp(0, frames - 1).to(values.device)
    return values.gather(2, source.unsqueeze(1).expand(n, rows, frames))
