"""A convolutional network on the samples themselves, which learns its own filters.

Source: Dai, Dai, Qu, Li, Das, "Very Deep Convolutional Neural Networks for Raw Waveforms", ICASSP 2017 (arXiv
1610.00087), table 1: long filters at a stride in front, then stages of short ones, each behind a pooling over four.
Stages have fewer channels here. It needs `features.name: waveform`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from audioml.errors import ParamsError
from audioml.params import FILE_NAME, Section

POOLING = 4


PRUNABLE = True
"""Whole channels can be removed from a trained network."""


class Params(Section):
    """How large the network is."""

    filters: Annotated[int, Field(ge=1)] = 32
    """Filters of the first convolution."""
    kernel: Annotated[int, Field(ge=1)] = 80
    """Samples that they see: 10 ms at 8 kHz."""
    stride: Annotated[int, Field(ge=1)] = 4
    """Samples from one of their outputs to the next."""
    channels: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (48, 64, 96)
    """Channels of each stage that follows: two convolutions over three frames each. The head sees the last ones."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the last stage's channels that training drops."""


def build(params: Params, input_shape: tuple[int, int | None]) -> nn.Module:
    """Return the network without head.

    It maps float32 (n, 1, samples) to (n, width, frames'), where `width` is an attribute and frames' is samples
    divided by the stride, then by four once a stage, each time rounded up.

    Raises
    ------
    ParamsError
        When the features are no waveform.
    """
    if input_shape[0] != 1:
        raise ParamsError(
            f"{FILE_NAME}: the model 'rawcnn' reads samples, but the features have {input_shape[0]} bins. "
            "Set features.name to waveform, or choose another model."
        )
    return RawNetwork(params)


class RawNetwork(nn.Module):
    """The whole network; see `build`."""

    def __init__(self, params: Params) -> None:
        super().__init__()
        self.width = params.channels[-1]
        layers: list[nn.Module] = [_convolve(1, params.filters, params.kernel, params.stride)]
        inputs = params.filters
        for outputs in params.channels:
            layers += [nn.MaxPool1d(POOLING, ceil_mode=True), _convolve(inputs, outputs), _convolve(outputs, outputs)]
            inputs = outputs
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout1d(params.dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, 1, samples) to (n, width, frames')."""
        y: Tensor = self.dropout(self.layers(features))
        return y


def _convolve(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    # So many zeros that there is an output for each stride that has begun.
    before = max(0, kernel - stride) // 2
    return nn.Sequential(
        nn.ConstantPad1d((before, kernel - 1 - before), 0.0),
        nn.Conv1d(inputs, outputs, kernel, stride=stride, bias=False),
        nn.BatchNorm1d(outputs),
        nn.ReLU(inplace=True),
    )
