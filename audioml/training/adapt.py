"""Train a part of a network: what is frozen, and low-rank changes of frozen layers.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685), section 4.1: a frozen weight
``W`` becomes ``W + B A`` with few rows in ``A`` and columns in ``B``, where ``B`` starts at zero. A convolution's
kernel is taken as a matrix of a row for each output channel. The change is added into the weight before export.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from audioml.errors import ParamsError
from audioml.params import FILE_NAME, TrainingParams

if TYPE_CHECKING:
    from audioml.training.network import Network

ADAPTED = (nn.Linear, nn.Conv1d, nn.Conv2d)


class LowRank(nn.Module):
    """A weight plus a change of low rank; a parametrisation of torch."""

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        outputs, inputs = len(weight), weight[0].numel()
        rank = min(rank, outputs, inputs)
        self.down = nn.Parameter(torch.empty(rank, inputs))
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        """Return the changed weight, of the same shape."""
        return weight + (self.up @ self.down).view_as(weight)


def restrict(network: Network, training: TrainingParams, seed: int) -> None:
    """Freeze what `training.freeze` says, and add what `training.adapt` trains, with initial values from the seed.

    Raises
    ------
    ParamsError
        When the model has no layer that can be adapted.
    """
    if training.freeze == "body" or training.adapt != "none":
        network.model.requires_grad_(False)
    elif training.freeze == "batchnorm":
        for layer in _normalisations(network):
            layer.requires_grad_(False)
    if training.adapt == "lora":
        add_low_rank(network.model, training.rank, seed)


def still_parts(network: Network, training: TrainingParams) -> list[nn.Module]:
    """Return the parts that behave as in inference while the rest is trained: no dropout, fixed statistics."""
    if training.freeze == "body" or training.adapt != "none":
        return [network.model]
    return list(_normalisations(network)) if training.freeze == "batchnorm" else []


def add_low_rank(body: nn.Module, rank: int, seed: int) -> None:
    """Let each linear and convolutional layer learn a change of at most this rank.

    Raises
    ------
    ParamsError
        When there is no such layer.
    """
    layers = [layer for layer in body.modules() if isinstance(layer, ADAPTED)]
    if not layers:
        raise ParamsError(
            f"{FILE_NAME}: training.adapt is 'lora', but this model has no linear or convolutional layer. "
            "Set training.adapt to none."
        )
    torch.manual_seed(seed)
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank))


def is_adapted(state: Mapping[str, Tensor]) -> bool:
    """Tell whether weights by name are those of a network with low-rank changes."""
    return any(".parametrizations." in name for name in state)


def merge_low_rank(body: nn.Module) -> None:
    """Add the changes into the weights; nothing of them is left."""
    for layer in list(body.modules()):
        if isinstance(layer, ADAPTED) and parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight")


def _normalisations(network: Network) -> Iterator[nn.Module]:
    return (layer for layer in network.modules() if isinstance(layer, _BatchNorm))
