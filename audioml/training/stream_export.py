"""A trained network that hears streams, as one ONNX file: what layers keep goes in and out beside the features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audioml.models._causal import Memory
from audioml.store.files import write_atomic
from audioml.training.export import INPUT, OUTPUT, check_error, relative_error, save_onnx
from audioml.training.network import Network

EXAMPLE_BLOCKS = 3


def export_stream(network: Network, examples: Sequence[Tensor], path: Path, block: int) -> float:
    """Write a network for streams as one ONNX file and return its largest difference to torch on whole windows.

    The first input is `features`, the first output `outputs`. Further inputs, `before_0` and so on, are what the
    layers kept of the part before, float32, each of the shape that the file says, and zeros before the first part; the
    further outputs, in the same order, are what they keep for the next.

    Parameters
    ----------
    network
        Its model takes a `Memory`.
    examples
        Features of a few windows, each float32 (n, bins, frames), n at least 1: what is compared, the first of each.
    path
        Written atomically. Of one stream at a time.
    block
        Frames that are taken at a time: all parts but the last have a multiple of it.

    Raises
    ------
    StepError
        When onnxruntime's outputs, part after part, differ from torch's of the whole by more than 1e-4.
    """
    network = network.to("cpu").eval()
    features = torch.zeros(1, examples[0].shape[1], EXAMPLE_BLOCKS * block)
    memory = Memory()
    with torch.no_grad():
        network.hear(features, memory)
    kept = [torch.zeros_like(value) for value in memory.after]
    names = [[f"{when}_{i}" for i in range(len(kept))] for when in ("before", "after")]
    shapes = {"features": {2: "frames"}, "before": tuple({} for _ in kept)}
    with write_atomic(path) as temporary:
        save_onnx(_Part(network), (features, *kept), [INPUT, *names[0]], [OUTPUT, *names[1]], shapes, temporary)
        session = onnxruntime.InferenceSession(temporary.read_bytes(), providers=["CPUExecutionProvider"])
        error = max(_compare(network, session, example[:1], kept, block) for example in examples)
        check_error(error)
    return error


class _Part(nn.Module):
    """One part of a stream, with all that is kept as inputs and outputs."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, *before: Tensor) -> tuple[Tensor, ...]:
        memory = Memory(before)
        outputs = self.network.hear(features, memory)
        return outputs, *memory.after


def _compare(
    network: Network, session: onnxruntime.InferenceSession, example: Tensor, kept: Sequence[Tensor], block: int
) -> float:
    with torch.no_grad():
        expected = network(example).numpy()
    values: list[NDArray[np.float32]] = [value.numpy() for value in kept]
    found = []
    for features in torch.split(example, block, dim=2):
        inputs = zip(session.get_inputs(), [features.numpy(), *values], strict=True)
        outputs, *values = session.run(None, {node.name: value for node, value in inputs})
        found.append(outputs)
    return relative_error(np.concatenate(found, axis=-1), expected)
