"""What is trained and exported: standardisation, model and head in one module."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audioml.errors import ParamsError
from audioml.params import FILE_NAME, Params
from audioml.plugins import load_plugin
from audioml.training.adapt import add_low_rank, is_adapted, merge_low_rank
from audioml.training.seeds import derive_seed

if TYPE_CHECKING:
    from audioml.models._causal import Memory


class Network(nn.Module):
    """Features (n, bins, frames) as they are stored to the task's raw outputs."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, head: nn.Module, bins: int) -> None:
        super().__init__()
        self.model = model
        self.head = head
        self.register_buffer("mean", torch.zeros(bins, 1))
        self.register_buffer("std", torch.ones(bins, 1))

    def set_standardisation(self, mean: NDArray[np.float32], std: NDArray[np.float32]) -> None:
        """Set what is subtracted from, and what divides, each bin; each (bins,)."""
        self.mean.copy_(torch.from_numpy(mean).unsqueeze(1))
        self.std.copy_(torch.from_numpy(std).unsqueeze(1))

    def forward(self, features: Tensor) -> Tensor:
        """Map float32 (n, bins, frames) to the head's outputs."""
        return cast(Tensor, self.head(self.model(self.standardise(features))))

    def hear(self, features: Tensor, memory: Memory) -> Tensor:
        """Map the next part of a stream, float32 (n, bins, frames), to the head's outputs; see `stream_block`."""
        return cast(Tensor, self.head(self.model(self.standardise(features), memory)))

    def standardise(self, features: Tensor) -> Tensor:
        """Map float32 (n, bins, frames) to what the model sees, of the same shape."""
        return (features - self.mean) / self.std

    @property
    def n_parameters(self) -> int:
        """How many numbers are learned."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


def build_network(params: Params, targets: dict[str, Any], input_shape: tuple[int, int | None]) -> Network:
    """Return the network of the params with initial weights that follow from the seed.

    Raises
    ------
    ParamsError
        When the model needs windows of one length, and these have each their own.
    """
    torch.manual_seed(derive_seed(params.seed, "weights"))
    model = load_model(params, input_shape).build(params.plugin_section("models"), input_shape)
    task = load_plugin("tasks", params.task.name)
    head = task.build_head(params.plugin_section("tasks"), targets, model.width)
    return Network(model, head, input_shape[0])


def build_fitted_network(params: Params, arrays: dict[str, Tensor], bins: int) -> Network:
    """Return the network of a model that was fitted without gradient descent, ready for inference.

    It has the model only: features are not standardised, and its outputs, log-probabilities, need no head.
    """
    plugin = load_plugin("models", params.model.name)
    return Network(plugin.build_fitted(params.plugin_section("models"), arrays), nn.Identity(), bins).eval()


def is_fitted(params: Params) -> bool:
    """Tell whether the model is fitted without gradient descent: its plug-in has `fit` in place of `build`."""
    return hasattr(load_plugin("models", params.model.name), "fit")


def load_model(params: Params, input_shape: tuple[int, int | None]) -> ModuleType:
    """Return the plug-in of the model.

    Raises
    ------
    ParamsError
        When the model needs windows of one length, and these have each their own.
    """
    plugin = load_plugin("models", params.model.name)
    if input_shape[1] is None and getattr(plugin, "FIXED_FRAMES", False):
        raise ParamsError(
            f"{FILE_NAME}: the model {params.model.name!r} needs windows of one length, but 'features.length' is "
            "'whole', so each clip has its own. Set features.length to pad or segment, or choose another model."
        )
    return plugin


def load_network(
    params: Params, checkpoint: Path, targets: dict[str, Any], input_shape: tuple[int, int | None]
) -> Network:
    """Return the network with the weights of a checkpoint, low-rank changes merged into them, ready for inference."""
    weights = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    if is_fitted(params):
        return build_fitted_network(params, weights, input_shape[0])
    network = build_network(params, targets, input_shape)
    if is_adapted(weights):
        add_low_rank(network.model, params.training.rank, params.seed)
    network.load_state_dict({name.removeprefix("network."): value for name, value in weights.items()})
    merge_low_rank(network.model)
    return network.eval()
