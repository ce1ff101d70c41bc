"""From frames to one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MeanAndMax(nn.Module):
    """The mean over frames of each channel, and its largest value."""

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, width, frames) to (n, 2 width)."""
        return torch.cat([maps.mean(dim=2), maps.amax(dim=2)], dim=1)
