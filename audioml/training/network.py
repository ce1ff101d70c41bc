"""What is trained and exported: standardisation, model and head in one module."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class Network(nn.Module):
    """Features (n, bins, frames) as they are stored to the task's raw outputs."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, head: nn.Module, bins: int) -> None:
        super().__init__()
        self.model = model
        self.head = head
        self.register_buffer("mean", torch.zeros(bins, 1))
        self.register_buffer("std", torch.ones(bins, 1))

    def set_standardisation(self, mean: NDArray[np.float32], std: NDArray[np.float32]) -> None:
        """Set what is subtracted from, and what divides, each bin; each (bins,)."""
        self.mean.copy_(torch.from_numpy(mean).unsqueeze(1))
        self.std.copy_(torch.from_numpy(std).unsqueeze(1))

    def forward(self, features: Tensor) -> Tensor:
        """Map float32 (n, bins, frames) to the head's outputs."""
        return cast(Tensor, self.head(self.model((features - self.mean) / self.std)))

    @property
    def n_parameters(self) -> int:
        """How many numbers are learned."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)
