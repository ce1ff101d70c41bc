"""A small residual network of plain 3 × 3 convolutions.

Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016 (arXiv 1512.03385), section
3.3, cut down to one residual block a stage and to few channels. It spends more multiply-adds than networks of
depthwise convolutions, but CPUs run plain convolutions at several times the speed: with the defaults a training
step takes a third of the time of `bcresnet`.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from audioml.params import Section

PRUNABLE = True
"""Whole channels can be removed from a trained network."""


class Params(Section):
    """How large the network is."""

    channels: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (16, 24, 32)
    """Channels of each stage. The first convolution and each further stage halve bins and frames."""
    width: Annotated[int, Field(ge=1)] = 48
    """Channels of the last convolution, which the head sees."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the last convolution's channels that training drops."""


def build(params: Params, input_shape: tuple[int, int | None]) -> nn.Module:
    """Return the network without head.

    It maps float32 (n, bins, frames) to (n, width, frames'), where `width` is an attribute and frames' is frames
    halved once a stage, rounded up. Bins that are left are averaged, so any `input_shape` works.
    """
    return ResidualNetwork(params)


class ResidualNetwork(nn.Module):
    """The whole network; see `build`."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.width = params.width
        first, *others = params.channels
        layers: list[nn.Module] = [_convolve(1, first, kernel=5, stride=2), ResidualBlock(first)]
        inputs = first
        for outputs in others:
            layers += [_convolve(inputs, outputs, stride=2), ResidualBlock(outputs)]
            inputs = outputs
        layers.append(_convolve(inputs, params.width, stride=(2, 1)))
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout1d(params.dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, bins, frames) to (n, width, frames')."""
        averaged: Tensor = self.layers(features.unsqueeze(1)).mean(dim=2)
        dropped: Tensor = self.dropout(averaged)
        return dropped


class ResidualBlock(nn.Module):
    """Two convolutions around an identity: ``relu(x + f(x))``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = _convolve(channels, channels)
        self.outer = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, channels, bins, frames) to the same shape."""
        return torch.relu(x + self.outer(self.inner(x)))


def _convolve(inputs: int, outputs: int, kernel: int = 3, stride: int | tuple[int, int] = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
