"""A convolutional encoder that first learns to fill in what is hidden of a spectrogram, without labels.

Sources: Vincent et al., "Stacked Denoising Autoencoders", Journal of Machine Learning Research 11, 2010, for
learning an encoder by reconstruction of damaged input; He et al., "Masked Autoencoders Are Scalable Vision
Learners", CVPR 2022 (arXiv 2111.06377), and Huang et al., "Masked Autoencoders that Listen", NeurIPS 2022 (arXiv
2207.06405), for hiding patches. The decoder serves pretraining only: it is no part of the exported model.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from audioml.params import Section


class Params(Section):
    """How large the network is, and how it is pretrained."""

    channels: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (16, 32, 64)
    """Channels of each stage, which halves bins and frames; the head sees the last ones."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the last stage's channels that training drops."""
    pretrain_epochs: Annotated[int, Field(ge=0)] = 10
    """Epochs of reconstruction before those with labels."""
    hidden_share: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of patches that are hidden in reconstruction; 0 for a plain autoencoder. A patch is what one
    output of the encoder stands for: 8 bins and 8 frames with three stages."""


def build(params: Params, input_shape: tuple[int, int | None]) -> nn.Module:
    """Return the network without head.

    It maps float32 (n, bins, frames) to (n, width, frames'), where `width` is an attribute and frames' is frames
    halved once a stage, rounded up. Bins that are left are averaged, so any `input_shape` works.
    """
    return Autoencoder(params)


class Autoencoder(nn.Module):
    """Encoder and decoder; see `build`."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.width = params.channels[-1]
        self.hidden_share = params.hidden_share
        sizes = (1, *params.channels)
        self.encoder = nn.Sequential(*(_encode(*pair) for pair in pairwise(sizes)))
        backwards = sizes[:0:-1]
        self.decoder = nn.Sequential(*(_decode(*pair) for pair in pairwise(backwards)), _double(backwards[-1], 1))
        # No part of the model that is kept: pretraining, which trains all, is all that trains it.
        self.decoder.requires_grad_(False)
        self.patch = 2 ** len(params.channels)
        self.dropout = nn.Dropout1d(params.dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, bins, frames) to (n, width, frames')."""
        averaged: Tensor = self.encoder(features.unsqueeze(1)).mean(dim=2)
        dropped: Tensor = self.dropout(averaged)
        return dropped

    def pretraining_loss(self, features: Tensor) -> Tensor:
        """Return the mean squared error of features (n, bins, frames) that are restored from the patches left over.

        Features are standardised, so a hidden patch is 0, their mean. What is hidden is drawn from torch's global
        generator, as dropout is.
        """
        _, bins, frames = features.shape
        visible = features * self._draw_visible(features)
        restored = self.decoder(self.encoder(visible.unsqueeze(1)))[:, 0, :bins, :frames]
        return nn.functional.mse_loss(restored, features)

    def _draw_visible(self, features: Tensor) -> Tensor:
        n, bins, frames = features.shape
        patches = torch.rand(n, -(-bins // self.patch), -(-frames // self.patch), device=features.device)
        kept = (patches >= self.hidden_share).to(features.dtype)
        return kept.repeat_interleave(self.patch, 1).repeat_interleave(self.patch, 2)[:, :bins, :frames]


def _encode(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_convolve(inputs, outputs, stride=2), _convolve(outputs, outputs))


def _convolve(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _decode(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(_double(inputs, outputs), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _double(inputs: int, outputs: int) -> nn.Module:
    """Return a convolution that doubles bins and frames."""
    return nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
