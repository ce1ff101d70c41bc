"""Conformer: self-attention for what is far apart, convolutions for what is near.

Source: Gulati et al., "Conformer: Convolution-augmented Transformer for Speech Recognition", Interspeech 2020 (arXiv
2005.08100), sections 2.1 to 2.4, far smaller. Positions are sines that are added once, and not relative ones in each
layer as in the paper; kernels are shorter, as frames are 40 ms apart after the convolutions in front.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from audioml.models._attention import AttentionParams, positions

FRONT_STRIDE = 2
"""Of each of the two convolutions in front, over bins and frames."""


class Params(AttentionParams):
    """How large the network is."""

    front_channels: Annotated[int, Field(ge=1)] = 16
    """Of the two convolutions in front, which take a quarter of the bins and frames."""
    kernel: Annotated[int, Field(ge=1)] = 15
    """Frames that a depthwise convolution sees; 31 in the paper."""


def build(params: Params, input_shape: tuple[int, int | None]) -> nn.Module:
    """Return the network without head for inputs of shape (bins, frames).

    It maps float32 (n, bins, frames) to (n, width, frames'), where `width` is an attribute and frames' is a quarter
    of the frames, rounded up.
    """
    return Conformer(params, input_shape[0])


class Conformer(nn.Module):
    """The whole network; see `build`."""

    def __init__(self, params: Params, bins: int) -> None:
        super().__init__()
        self.width = params.width
        channels = params.front_channels
        self.front = nn.Sequential(_subsample(1, channels), _subsample(channels, channels))
        for _ in range(2):
            bins = -(-bins // FRONT_STRIDE)
        self.project = nn.Linear(channels * bins, params.width)
        self.dropout = nn.Dropout(params.dropout)
        self.blocks = nn.Sequential(*(Block(params) for _ in range(params.layers)))

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, bins, frames) to (n, width, frames')."""
        x = self.project(self.front(features.unsqueeze(1)).flatten(1, 2).transpose(1, 2))
        y: Tensor = self.blocks(self.dropout(x + positions(x)))
        return y.transpose(1, 2)


class Block(nn.Module):
    """Half a feed-forward layer, attention, convolution, the other half; each is added to what it takes."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.first_half = _feed_forward(params)
        self.attention = Attention(params)
        self.convolution = Convolution(params)
        self.second_half = _feed_forward(params)
        self.norm = nn.LayerNorm(params.width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, frames, width) to the same shape."""
        x = x + 0.5 * self.first_half(x)
        x = x + self.attention(x)
        x = x + self.convolution(x)
        y: Tensor = self.norm(x + 0.5 * self.second_half(x))
        return y


class Attention(nn.Module):
    """Each frame sees all others."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(params.width)
        self.attention = nn.MultiheadAttention(params.width, params.heads, params.dropout, batch_first=True)
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, frames, width) to the same shape."""
        x = self.norm(x)
        y: Tensor = self.dropout(self.attention(x, x, x, need_weights=False)[0])
        return y


class Convolution(nn.Module):
    """A gated pointwise convolution, a depthwise one over frames, and a pointwise one."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        width = params.width
        self.norm = nn.LayerNorm(width)
        self.layers = nn.Sequential(
            nn.Conv1d(width, 2 * width, 1),
            nn.GLU(dim=1),
            nn.Conv1d(width, width, params.kernel, padding="same", groups=width, bias=False),
            nn.BatchNorm1d(width),
            nn.SiLU(),
            nn.Conv1d(width, width, 1),
            nn.Dropout(params.dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, frames, width) to the same shape."""
        y: Tensor = self.layers(self.norm(x).transpose(1, 2))
        return y.transpose(1, 2)


def _subsample(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=FRONT_STRIDE, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _feed_forward(params: Params) -> nn.Sequential:
    wide = params.width * params.expansion
    return nn.Sequential(
        nn.LayerNorm(params.width),
        nn.Linear(params.width, wide),
        nn.SiLU(),
        nn.Dropout(params.dropout),
        nn.Linear(wide, params.width),
        nn.Dropout(params.dropout),
    )
