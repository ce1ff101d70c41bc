"""What models of self-attention share."""

from __future__ import annotations

import math
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from audioml.params import Section

LONGEST_PERIOD = 10000.0


class AttentionParams(Section):
    """How large a network of self-attention is."""

    width: Annotated[int, Field(ge=2)] = 64
    """Channels, which the head sees: an even number that `heads` divides."""
    layers: Annotated[int, Field(ge=1)] = 3
    heads: Annotated[int, Field(ge=1)] = 4
    """Of each layer's attention."""
    expansion: Annotated[int, Field(ge=1)] = 2
    """Channels within feed-forward layers, in units of `width`; 4 in the paper."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of each layer's outputs that training drops."""

    @model_validator(mode="after")
    def _check_width(self) -> Self:
        if self.width % 2 or self.width % self.heads:
            raise ValueError(
                f"width must be an even number that heads divides, but {self.width} channels do not make {self.heads} "
                f"heads; take a multiple of {math.lcm(2, self.heads)}"
            )
        return self


def positions(x: Tensor) -> Tensor:
    """Return sines and cosines of each frame's number, float32 (frames, width), for x (n, frames, width).

    Half of the channels are sines, half cosines, with periods from 2 pi to nearly 20,000 pi frames (Vaswani et al.,
    "Attention Is All You Need", NeurIPS 2017, arXiv 1706.03762, section 3.5). They are made for as many frames as there
    are, so a model takes any number.
    """
    half = x.shape[2] // 2
    rates = torch.exp(torch.arange(half, device=x.device) * (-math.log(LONGEST_PERIOD) / half))
    angles = torch.arange(x.shape[1], device=x.device)[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], dim=1)
