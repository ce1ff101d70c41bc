"""LightCNN: a plain convolutional network in which pairs of channels compete.

Source: Wu, He, Sun, Tan, "A Light CNN for Deep Face Representation with Noisy Labels", IEEE Transactions on
Information Forensics and Security 13(11), 2018 (arXiv 1511.02683), table 1 (LightCNN-9), cut down to few channels,
with the batch normalisation of Lavrentyeva et al., "STC Antispoofing Systems for the ASVspoof2019 Challenge",
Interspeech 2019 (arXiv 1904.05576), who brought it to spectrograms. Its activation, the max-feature-map, keeps the
larger of two channels: a filter is switched off by a better one, and not by a threshold.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from audioml.params import Section


class Params(Section):
    """How large the network is."""

    channels: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (16, 24, 32)
    """Channels of each stage. Each stage ends in a pooling that halves bins and frames."""
    width: Annotated[int, Field(ge=1)] = 64
    """Channels of the last convolution, which the head sees."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the last convolution's channels that training drops."""


def build(params: Params, input_shape: tuple[int, int | None]) -> nn.Module:
    """Return the network without head.

    It maps float32 (n, bins, frames) to (n, width, frames'), where `width` is an attribute and frames' is frames
    halved once a stage, rounded up. Bins that are left are averaged, so any `input_shape` works.
    """
    return LightCNN(params)


class LightCNN(nn.Module):
    """The whole network; see `build`."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.width = params.width
        first, *others = params.channels
        layers: list[nn.Module] = [MaxFeatureMap(1, first, kernel=5), _pool()]
        inputs = first
        for outputs in others:
            # A pointwise convolution before each, the "network in network" of the paper.
            layers += [MaxFeatureMap(inputs, inputs, kernel=1), MaxFeatureMap(inputs, outputs, kernel=3), _pool()]
            inputs = outputs
        layers += [MaxFeatureMap(inputs, inputs, kernel=1), MaxFeatureMap(inputs, params.width, kernel=3)]
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout1d(params.dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, bins, frames) to (n, width, frames')."""
        averaged: Tensor = self.layers(features.unsqueeze(1)).mean(dim=2)
        dropped: Tensor = self.dropout(averaged)
        return dropped


class MaxFeatureMap(nn.Module):
    """A normalised convolution to twice the channels, and the larger of each channel and its partner."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, 2 * outputs, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, bins, frames) to (n, outputs, bins, frames)."""
        one, other = self.norm(self.convolution(x)).chunk(2, dim=1)
        return torch.maximum(one, other)


def _pool() -> nn.Module:
    return nn.MaxPool2d(2, ceil_mode=True)
