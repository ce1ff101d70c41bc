"""SpecAugment: cover bands of bins and stretches of frames with the clip's mean.

Source: Park et al., "SpecAugment", Interspeech 2019 (arXiv 1904.08779), without time warping. Sizes are
shares, so that one setting suits features of any resolution.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from audioml.params import Section


class Params(Section):
    """How many masks, and how large."""

    bin_masks: Annotated[int, Field(ge=0)] = 2
    """Bands of bins covered in each clip."""
    max_bins_share: Annotated[float, Field(ge=0, le=1)] = 0.15
    """Largest band, as a share of the bins."""
    frame_masks: Annotated[int, Field(ge=0)] = 2
    """Stretches of frames covered in each clip."""
    max_frames_share: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Longest stretch, as a share of the frames."""


def apply(params: Params, features: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return features (n, bins, frames) with masks filled by each clip's mean; targets stay."""
    n, bins, frames = features.shape
    covered_bins = _draw_masks(n, bins, params.bin_masks, params.max_bins_share, generator)
    covered_frames = _draw_masks(n, frames, params.frame_masks, params.max_frames_share, generator)
    covered = (covered_bins.unsqueeze(2) | covered_frames.unsqueeze(1)).to(features.device)
    return torch.where(covered, features.mean(dim=(1, 2), keepdim=True), features), targets


def _draw_masks(n: int, size: int, masks: int, max_share: float, generator: torch.Generator) -> Tensor:
    """Return bool (n, size): the union of `masks` stretches of 0 to ``max_share * size``."""
    lengths = torch.randint(0, round(max_share * size) + 1, (n, masks, 1), generator=generator)
    starts = (torch.rand(n, masks, 1, generator=generator) * (size - lengths + 1)).long()
    position = torch.arange(size)
    return ((position >= starts) & (position < starts + lengths)).any(dim=1)
