"""Recurrent layers over frames, for the models that have them."""

from __future__ import annotations

from typing import Annotated, Any, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from audioml.models._causal import Memory
from audioml.params import Section

Cell = type[nn.LSTM] | type[nn.GRU]


class RecurrentParams(Section):
    """How large a recurrent network is."""

    hidden: Annotated[int, Field(ge=1)] = 64
    """Units of a layer, in each direction."""
    layers: Annotated[int, Field(ge=1)] = 2
    bidirectional: bool = True
    """Whether layers also read from the end to the start; the head then sees twice as many channels. Such a model
    hears clips as a whole only, and no streams."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of each layer's outputs that training drops."""


def stream_block(params: RecurrentParams) -> int | None:
    """Return 1, as layers in one direction take frame by frame; None for both directions."""
    return None if params.bidirectional else 1


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

    def forward(self, x: Tensor, memory: Memory | None = None) -> Tensor:
        """Map (n, frames, inputs) to (n, frames, width); with a memory, only in one direction, from its states."""
        for i, layer in enumerate(self.layers):
            x = self.dropout(x) if i > 0 else x
            x = _read(cast(nn.LSTM | nn.GRU, layer), x, memory)
        return x


def _read(layer: nn.LSTM | nn.GRU, x: Tensor, memory: Memory | None) -> Tensor:
    """Return the outputs of one layer, and keep its states, (1, n, hidden) each, where there is a memory."""
    apply = _as_onnx if torch.onnx.is_in_onnx_export() else _as_torch
    if memory is None:
        return apply(layer, x, [])[0]
    zeros = x.new_zeros(1, x.shape[0], layer.hidden_size)
    outputs, *states = apply(layer, x, [memory.recall(zeros) for _ in range(_n_states(layer))])
    for state in states:
        memory.keep(state)
    return outputs


def _n_states(layer: nn.LSTM | nn.GRU) -> int:
    """Return how many states a layer has: an LSTM's outputs and cells, or a GRU's outputs."""
    return 2 if isinstance(layer, nn.LSTM) else 1


def _as_torch(layer: nn.LSTM | nn.GRU, x: Tensor, states: list[Tensor]) -> list[Tensor]:
    """Return the layer's outputs and its last states; it starts from zeros where no states are given."""
    before: Any = None if not states else tuple(states) if isinstance(layer, nn.LSTM) else states[0]
    outputs, after = layer(x, before)
    return [outputs, *(after if isinstance(layer, nn.LSTM) else [after])]


def _as_onnx(layer: nn.LSTM | nn.GRU, x: Tensor, states: list[Tensor]) -> list[Tensor]:
    """Return what `_as_torch` does, by the ONNX operator of the layer's name.

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
    state_shape = (len(ends), x.shape[0], layer.hidden_size)
    n_outputs = 1 + _n_states(layer) if states else 1
    outputs, *after = torch.onnx.ops.symbolic_multi_out(
        "LSTM" if is_lstm else "GRU",
        # No lengths: all clips have as many frames.
        (x.transpose(0, 1), gather("weight_ih"), gather("weight_hh"), biases, *([None, *states] if states else [])),
        attributes if is_lstm else attributes | {"linear_before_reset": 1},
        dtypes=[x.dtype] * n_outputs,
        shapes=[(x.shape[1], *state_shape), *[state_shape] * (n_outputs - 1)],
    )
    return [outputs.permute(2, 0, 1, 3).flatten(2), *after]


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

    def forward(self, features: Tensor, memory: Memory | None = None) -> Tensor:
        """Map (n, bins, frames) to (n, width, frames)."""
        outputs: Tensor = self.dropout(self.layers(features.transpose(1, 2), memory))
        return outputs.transpose(1, 2)
