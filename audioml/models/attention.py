"""Self-attention over patches of the spectrogram.

Sources: Gong, Chung, Glass, "AST: Audio Spectrogram Transformer", Interspeech 2021 (arXiv 2104.01778), for
attention over overlapping patches; Xiao, Singh, Mintun, Darrell, Dollár, Girshick, "Early Convolutions Help
Transformers See Better", NeurIPS 2021 (arXiv 2106.14881), for what makes the patches: a few convolutions learn from
few clips what one linear layer needs a large corpus for. It is far smaller, normalises before each layer (Xiong et
al. 2020, arXiv 2002.04745) and has no class token, as the head takes the mean over frames. Positions are learned
over bins and sines over frames, so clips may be of any length.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from audioml.models._attention import AttentionParams, positions

INITIAL_SCALE = 0.02
"""Standard deviation of learned positions at the start."""


class Params(AttentionParams):
    """How large the network is."""

    patch_channels: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (16, 32)
    """Channels of the convolutions in front, before a last one to `width`. Each halves bins and frames: with two,
    patches are 15 × 15, one for every 8 × 8; 16 × 16 for every 10 × 10 in AST."""


def build(params: Params, input_shape: tuple[int, int | None]) -> nn.Module:
    """Return the network without head for inputs of shape (bins, frames).

    It maps float32 (n, bins, frames) to (n, width, frames'), where `width` is an attribute and frames' is frames
    halved once a convolution in front, rounded up.
    """
    return SpectrogramTransformer(params, input_shape[0])


class SpectrogramTransformer(nn.Module):
    """The whole network; see `build`."""

    def __init__(self, params: Params, bins: int) -> None:
        super().__init__()
        self.width = params.width
        channels = (1, *params.patch_channels)
        self.patches = nn.Sequential(
            *(_halve(*pair) for pair in pairwise(channels)),
            nn.Conv2d(channels[-1], params.width, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(params.width),
        )
        for _ in channels:
            bins = -(-bins // 2)
        self.bin_positions = nn.Parameter(torch.randn(bins, 1, params.width) * INITIAL_SCALE)
        self.dropout = nn.Dropout(params.dropout)
        self.layers = nn.Sequential(*(_attend(params) for _ in range(params.layers)), nn.LayerNorm(params.width))

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, bins, frames) to (n, width, frames')."""
        patches = self.patches(features.unsqueeze(1)).permute(0, 2, 3, 1)
        placed = self.dropout(patches + self.bin_positions + positions(patches[:, 0]))
        attended: Tensor = self.layers(placed.flatten(1, 2))
        return attended.reshape(patches.shape).mean(dim=1).transpose(1, 2)


def _halve(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def _attend(params: Params) -> nn.Module:
    return nn.TransformerEncoderLayer(
        params.width,
        params.heads,
        params.width * params.expansion,
        params.dropout,
        activation="gelu",
        batch_first=True,
        norm_first=True,
    )
