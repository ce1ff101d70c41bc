"""Mixup: each clip becomes a weighted sum of itself and another, and so do the targets.

Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018 (arXiv 1710.09412). Each clip
draws its own weight, and keeps the larger part of itself.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from audioml.params import Section

MIXES = True


class Params(Section):
    """How much is mixed."""

    alpha: Annotated[float, Field(gt=0)] = 0.2
    """Both parameters of the Beta distribution that weights are drawn from; larger mixes more."""
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of clips that are mixed at all."""


def apply(params: Params, features: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return mixed features (n, bins, frames) and mixed soft targets (n, ...)."""
    n = len(features)
    # torch draws no Beta numbers from a generator of one's own, so numpy draws them, seeded by it.
    draw = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
    weights = draw.beta(params.alpha, params.alpha, n)
    weights = np.where(draw.random(n) < params.share, np.maximum(weights, 1 - weights), 1.0)
    partner = torch.randperm(n, generator=generator).to(features.device)
    weight = torch.from_numpy(weights).to(features)
    return _mix(features, partner, weight), _mix(targets, partner, weight)


def _mix(values: Tensor, partner: Tensor, weight: Tensor) -> Tensor:
    weight = weight.reshape(-1, *[1] * (values.ndim - 1)).to(values.dtype)
    return weight * values + (1 - weight) * values[partner]
