"""Recurrent layers over frames, for the models that have them."""

from __future__ import annotations

from typing import Annotated, Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from audioml.params import Section

Cell = type[nn.LSTM] | type[nn.GRU]


class RecurrentParams(Section):
    """How large a recurrent network is."""

    hidden: Annotated[int, Field(ge=1)] = 64
    """Units of a layer, in each direction."""
    layers: Annotated[int, Field(ge=1)] = 2
    bidirectional: bool = True
    """Whether layers also read from the end to the start; the head then sees twice as many channels."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of each layer's outputs that training drops."""


class Recurrent(nn.Module):
    """Layers of a recurrent cell over frames, with dropout before each but the first.

    Parameters
    ----------
    cell
        `nn.LSTM` or `nn.GRU`.
    inputs
        Numbers a frame.
    params
        The size of the layers.
    """

    def __init__(self, cell: Cell, inputs: int, params: RecurrentParams) -> None:
        super().__init__()
        self.width = params.hidden * (2 if params.bidirectional else 1)
        sizes = [inputs] + [self.width] * (params.layers - 1)
        self.layers = nn.ModuleList(
            cell(size, params.hidden, batch_first=True, bidirectional=params.bidirectional) for size in sizes
        )
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, frames, inputs) to (n, frames, width)."""
        for i, layer in enumerate(self.layers):
            x = self.dropout(x) if i > 0 else x
            x = _as_onnx(cast(nn.LSTM | nn.GRU, layer), x) if torch.onnx.is_in_onnx_export() else layer(x)[0]
        return x


def _as_onnx(layer: nn.LSTM | nn.GRU, x: Tensor) -> Tensor:
    """Return the layer's outputs as the ONNX operator of its name.

    Left to itself the exporter unrolls a bidirectional layer, which fixes the number of frames, or writes a loop. ONNX
    has the gates in another order, and the matrices of both directions in one tensor.
    """
    is_lstm = isinstance(layer, nn.LSTM)
    order = (0, 3, 1, 2) if is_lstm else (1, 0, 2)
    ends = ["l0", "l0_reverse"] if layer.bidirectional else ["l0"]

    def gather(name: str) -> Tensor:
        return torch.stack([_reorder(getattr(layer, f"{name}_{end}"), order) for end in ends])

    biases = torch.cat([gather("bias_ih"), gather("bias_hh")], dim=1)
    attributes: dict[str, Any] = {
        "hidden_size": layer.hidden_size,
        "direction": "bidirectional" if layer.bidirectional else "forward",
    }
    outputs = torch.onnx.ops.symbolic(
        "LSTM" if is_lstm else "GRU",
        (x.transpose(0, 1), gather("weight_ih"), gather("weight_hh"), biases),
        attributes if is_lstm else attributes | {"linear_before_reset": 1},
        dtype=x.dtype,
        shape=(x.shape[1], len(ends), x.shape[0], layer.hidden_size),
    )
    return outputs.permute(2, 0, 1, 3).flatten(2)


def _reorder(gates: Tensor, order: tuple[int, ...]) -> Tensor:
    parts = gates.chunk(len(order))
    return torch.cat([parts[i] for i in order])


class RecurrentNetwork(nn.Module):
    """Recurrent layers on features as they come, and dropout of what the head sees."""

    def __init__(self, cell: Cell, params: RecurrentParams, bins: int) -> None:
        super().__init__()
        self.layers = Recurrent(cell, bins, params)
        self.width = self.layers.width
        self.dropout = nn.Dropout(params.dropout)

    def forward(self, features: Tensor) -> Tensor:
        """Map (n, bins, frames) to (n, width, frames)."""
        outputs: Tensor = self.dropout(self.layers(features.transpose(1, 2)))
        return outputs.transpose(1, 2)
