"""MobileNetV2: inverted residuals of depthwise convolutions, for few multiply-adds.

Source: Sandler, Howard, Zhu, Zhmoginov, Chen, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018
(arXiv 1801.04381), section 3.3 and table 2, cut down in stages, blocks and channels. A CPU spends more time on a
multiply-add of a depthwise convolution than of a plain one: `rescnn` trains faster, this one computes less.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from audioml.params import Section

PRUNABLE = True
"""Whole channels can be removed from a trained network."""


class Params(Section):
    """How large the network is."""

    channels: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (16, 24, 32, 48)
    """Channels of each stage's bottlenecks. The first convolution and each further stage halve bins and frames."""
    blocks: Annotated[int, Field(ge=1)] = 2
    """Inverted residuals a stage."""
    expansion: Annotated[int, Field(ge=1)] = 4
    """Channels of the depthwise convolutions, in units of the bottleneck's; 6 in the paper."""
    width: Annotated[int, Field(ge=1)] = 96
    """Channels of the last convolution, which the head sees."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the last convolution's channels that training drops."""


def build(params: Params, input_shape: tuple[int, int | None]) -> nn.Module:
    """Return the network without head.

    It maps float32 (n, bins, frames) to (n, width, frames'), where `width` is an attribute and frames' is frames
    halved once a stage, rounded up. Bins that are left are averaged, so any `input_shape` works.
    """
    return MobileNet(params)


class MobileNet(nn.Module):
    """The whole network; see `build`."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.width = params.width
        inputs = params.channels[0]
        layers: list[nn.Module] = [_convolve(1, inputs, kernel=3, stride=2)]
        for stage, outputs in enumerate(params.channels):
            for block in range(params.blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                layers.append(InvertedResidual(inputs, outputs, stride, params.expansion))
                inputs = outputs
        layers.append(_convolve(inputs, params.width))
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout1d(params.dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, bins, frames) to (n, width, frames')."""
        averaged: Tensor = self.layers(features.unsqueeze(1)).mean(dim=2)
        dropped: Tensor = self.dropout(averaged)
        return dropped


class InvertedResidual(nn.Module):
    """Wide between narrow: pointwise to more channels, depthwise, and back without an activation.

    Where input and output are of one shape, the input is added.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.has_identity = stride == 1 and inputs == outputs
        wide = inputs * expansion
        self.layers = nn.Sequential(
            _convolve(inputs, wide),
            _convolve(wide, wide, kernel=3, stride=stride, groups=wide),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, bins, frames) to (n, outputs, bins', frames')."""
        y: Tensor = self.layers(x)
        return x + y if self.has_identity else y


def _convolve(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU6(inplace=True),
    )
