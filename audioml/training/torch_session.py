"""A network in torch behind the interface of onnxruntime's session, for models that are judged and not kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from audioml.training.network import Network

INPUT = "features"


class _Input(NamedTuple):
    name: str


class TorchSession:
    """Runs a network as `onnxruntime.InferenceSession` does: float32 arrays in and out, on the CPU."""

    def __init__(self, network: Network) -> None:
        self.network = network.to("cpu").eval()

    def get_inputs(self) -> list[_Input]:
        """Return the one input."""
        return [_Input(INPUT)]

    def run(self, names: None, inputs: Mapping[str, NDArray[np.float32]]) -> list[Any]:
        """Return the one output: (n, ...) of features (n, bins, frames)."""
        with torch.no_grad():
            return [self.network(torch.from_numpy(inputs[INPUT])).numpy()]
