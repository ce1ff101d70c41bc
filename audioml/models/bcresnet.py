"""BC-ResNet: a small network whose residuals are broadcast over frequency.

Source: Kim, Chang, Lee, Sung, "Broadcasted Residual Learning for Efficient Keyword Spotting", Interspeech
2021 (arXiv 2106.04140), with sub-spectral normalisation from Chang et al., ICASSP 2021 (arXiv 2103.13620).
Channels, blocks and strides follow table 1 of the paper for 40 mel bins. Other input shapes work as
well: the groups of the sub-spectral normalisation shrink to a divisor of the bins that are left, and
bins that are left after the last convolution are averaged.

Two changes, both set by params: `time_stride` halves the frames in the first convolution, which halves
the work, and `dropout` is 0.1 in the paper.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from audioml.params import Section

STAGE_BLOCKS = (2, 2, 4, 4)
STAGE_WIDTHS = (1.0, 1.5, 2.0, 2.5)
"""Channels of each stage, in units of the base width."""
STAGE_BIN_STRIDES = (1, 2, 2, 1)
STEM_WIDTH, LAST_WIDTH = 2.0, 4.0
BASE_CHANNELS = 8
"""Channels of the first stage at width 1 (BC-ResNet-1)."""


class Params(Section):
    """How large the network is."""

    width: Annotated[float, Field(gt=0, le=16)] = 2.0
    """Width multiplier, tau in the paper: BC-ResNet-1 to BC-ResNet-8."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of channels that each block drops in training."""
    subspectral_groups: Annotated[int, Field(ge=1)] = 5
    """Bands of bins that are normalised apart; the largest divisor of the bins up to this is taken."""
    time_stride: Annotated[int, Field(ge=1, le=8)] = 2
    """Stride over frames of the first convolution; 1 in the paper."""


def build(params: Params, input_shape: tuple[int, int | None]) -> nn.Module:
    """Return the network without head for inputs of shape (bins, frames).

    It maps float32 (n, bins, frames) to (n, width, frames'), where `width` is an attribute and frames'
    is frames divided by the time stride, rounded up.
    """
    return BCResNet(params, input_shape[0])


class BCResNet(nn.Module):
    """The whole network; see `build`."""

    def __init__(self, params: Params, bins: int) -> None:
        super().__init__()
        base = BASE_CHANNELS * params.width
        stem = round(base * STEM_WIDTH)
        self.width = round(base * LAST_WIDTH)
        self.stem = nn.Sequential(
            nn.Conv2d(1, stem, 5, stride=(2, params.time_stride), padding=2, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
        )
        bins = _strided(bins, 2)
        blocks: list[nn.Module] = []
        channels = stem
        stages = zip(STAGE_BLOCKS, STAGE_WIDTHS, STAGE_BIN_STRIDES, strict=True)
        for stage, (n_blocks, width, bin_stride) in enumerate(stages):
            for block in range(n_blocks):
                stride = bin_stride if block == 0 else 1
                bins = _strided(bins, stride)
                groups = _largest_divisor(bins, params.subspectral_groups)
                out = round(base * width)
                blocks.append(Block(channels, out, block == 0, stride, 2**stage, groups, params.dropout))
                channels = out
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(
            nn.Conv2d(channels, channels, (min(5, bins), 5), padding=(0, 2), groups=channels, bias=False),
            nn.Conv2d(channels, self.width, 1, bias=False),
            nn.BatchNorm2d(self.width),
            nn.ReLU(inplace=True),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, bins, frames) to (n, width, frames')."""
        x: Tensor = self.last(self.blocks(self.stem(features.unsqueeze(1))))
        return x.mean(dim=2)


class Block(nn.Module):
    """One broadcasted residual block: ``y = [x +] f2(x) + broadcast(f1(mean over bins of f2(x)))``.

    f2 is a depthwise convolution over bins with sub-spectral normalisation; f1 a dilated depthwise
    convolution over frames and a pointwise one. The first block of a stage changes the channels, so it
    has no identity and a pointwise convolution in front (sections 2.2 and 2.3 of the paper).
    """

    def __init__(
        self, inputs: int, outputs: int, transition: bool, bin_stride: int, dilation: int, groups: int, dropout: float
    ) -> None:
        super().__init__()
        self.transition = transition
        self.expand = (
            nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))
            if transition
            else nn.Identity()
        )
        self.over_bins = nn.Sequential(
            nn.Conv2d(outputs, outputs, (3, 1), stride=(bin_stride, 1), padding=(1, 0), groups=outputs, bias=False),
            SubSpectralNorm(outputs, groups),
        )
        self.over_frames = nn.Sequential(
            DilatedDepthwise(outputs, dilation),
            nn.BatchNorm1d(outputs),
            nn.SiLU(),
            nn.Conv1d(outputs, outputs, 1, bias=False),
            nn.Dropout1d(dropout),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, bins, frames) to (n, outputs, bins', frames)."""
        narrow = self.over_bins(self.expand(x))
        y = narrow + self.over_frames(narrow.mean(dim=2)).unsqueeze(2)
        return torch.relu(y if self.transition else y + x)


class DilatedDepthwise(nn.Conv1d):
    """A depthwise convolution of 3 frames, as three shifted products.

    On the CPU the library's own dilated depthwise convolution takes four times as long.
    """

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__(channels, channels, 3, padding=dilation, dilation=dilation, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Filter (n, channels, frames) along frames, with zeros beyond the ends."""
        frames, step = x.shape[2], self.dilation[0]
        before, here, after = self.weight.unbind(dim=2)
        padded = nn.functional.pad(x, (step, step))
        return before * padded[:, :, :frames] + here * x + after * padded[:, :, 2 * step : 2 * step + frames]


class SubSpectralNorm(nn.Module):
    """Batch normalisation with statistics and affine of its own for each band of bins."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.norm = nn.BatchNorm2d(channels * groups)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (n, channels, bins, frames); bins is a multiple of the groups."""
        _, channels, bins, frames = x.shape
        banded = x.reshape(-1, channels * self.groups, bins // self.groups, frames)
        normalised: Tensor = self.norm(banded)
        return normalised.reshape(-1, channels, bins, frames)


def _strided(size: int, stride: int) -> int:
    return -(-size // stride)


def _largest_divisor(number: int, at_most: int) -> int:
    return next(d for d in range(min(number, at_most), 0, -1) if number % d == 0)
