"""Convolutions for what a sound looks like, and a recurrent layer for what follows what.

Source: Çakır, Parascandolo, Heittola, Huttunen, Virtanen, "Convolutional Recurrent Neural Networks for Polyphonic
Sound Event Detection", IEEE/ACM Transactions on Audio, Speech, and Language Processing 25(6), 2017 (arXiv
1702.06286), section II. As there, pooling is over bins, so that each frame keeps its place; the first pooling may
also be over frames.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator
from torch import Tensor, nn

from audioml.models._causal import CausalConv2d, Memory, run
from audioml.models._recurrent import Recurrent, RecurrentParams

BIN_POOLING = 2
"""What each stage divides the bins by."""


class Params(RecurrentParams):
    """How large the network is."""

    channels: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (16, 24, 32)
    """Channels of each convolution. A pooling behind each halves the bins."""
    time_pooling: Annotated[int, Field(ge=1, le=8)] = 2
    """Frames that the first pooling makes one of; 1 in the paper."""
    layers: Annotated[int, Field(ge=1)] = 1
    causal: bool = False
    """Let convolutions see no frame to come, so that the model can answer a stream; needs `bidirectional: false`."""

    @model_validator(mode="after")
    def _check_direction(self) -> Self:
        if self.causal and self.bidirectional:
            raise ValueError(
                "causal is true, but bidirectional lets the recurrent layers read from the end of the clip; set "
                "bidirectional: false, or leave causal out"
            )
        return self


def stream_block(params: Params) -> int | None:
    """Return the frames that become one, `time_pooling`; None without `causal`."""
    return params.time_pooling if params.causal else None


def build(params: Params, input_shape: tuple[int, int | None]) -> nn.Module:
    """Return the network without head for inputs of shape (bins, frames).

    It maps float32 (n, bins, frames) to (n, width, frames'), where `width` is an attribute: `hidden`, or twice that
    in both directions; frames' is frames divided by `time_pooling`, rounded up.
    """
    return ConvolutionalRecurrentNetwork(params, input_shape[0])


class ConvolutionalRecurrentNetwork(nn.Module):
    """The whole network; see `build`."""

    def __init__(self, params: Params, bins: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        inputs, time_pooling = 1, params.time_pooling
        for outputs in params.channels:
            stages.append(_convolve(inputs, outputs, time_pooling, params.causal))
            inputs, time_pooling, bins = outputs, 1, -(-bins // BIN_POOLING)
        self.convolutions = nn.Sequential(*stages)
        self.recurrent = Recurrent(nn.GRU, inputs * bins, params)
        self.width = self.recurrent.width
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, features: Tensor, memory: Memory | None = None) -> Tensor:
        """Map (n, bins, frames) to (n, width, frames')."""
        maps = run(self.convolutions, features.unsqueeze(1), memory)
        frames = self.dropout(maps.flatten(1, 2).transpose(1, 2))
        outputs: Tensor = self.dropout(self.recurrent(frames, memory))
        return outputs.transpose(1, 2)


def _convolve(inputs: int, outputs: int, time_pooling: int, causal: bool) -> nn.Sequential:
    convolution: nn.Module = (
        CausalConv2d(inputs, outputs, 3, bias=False) if causal else nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    )
    return nn.Sequential(
        convolution,
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
        nn.MaxPool2d((BIN_POOLING, time_pooling), ceil_mode=True),
    )
