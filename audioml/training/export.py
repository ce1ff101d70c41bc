"""A trained network as one ONNX file that needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audioml.errors import StepError
from audioml.store.files import write_atomic
from audioml.training.network import Network
from audioml.training.quiet import quiet

INPUT, OUTPUT = "features", "outputs"
EXPORTERS = ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")
"""They remark on optional packages."""
MAX_ERROR = 1e-4
"""Largest difference to torch, relative to the larger of 1 and the largest output."""
CHECKED_BATCHES = (1, 3)
"""Batch sizes that are compared; that there are two shows that the size is free."""


def export_onnx(network: Network, examples: Sequence[Tensor], path: Path, any_frames: bool = False) -> float:
    """Write a network as one self-contained ONNX file and return its largest difference to torch.

    Parameters
    ----------
    network
        Maps float32 (n, bins, frames) to (n, ...).
    examples
        Features of a few windows, each float32 (n, bins, frames), n at least 1: what is compared.
    path
        Written atomically. Input `features`, output `outputs`, any n.
    any_frames
        The ONNX model takes windows of any length; else of the examples' only.

    Raises
    ------
    StepError
        When onnxruntime's outputs differ by more than 1e-4.
    """
    network = network.to("cpu").eval()
    free = {0: "n"} | ({2: "frames"} if any_frames else {})
    # Two, because an example of one would fix the size.
    longest = max(examples, key=lambda example: example.shape[2])[:1].repeat(2, 1, 1)
    with write_atomic(path) as temporary:
        save_onnx(network, (longest,), [INPUT], [OUTPUT], {"features": free}, temporary)
        error = max(_compare(network, example, n, temporary) for example in examples for n in CHECKED_BATCHES)
        check_error(error)
    return error


def save_onnx(
    module: nn.Module,
    examples: tuple[Tensor, ...],
    inputs: Sequence[str],
    outputs: Sequence[str],
    dynamic_shapes: dict[str, Any],
    path: Path,
) -> None:
    """Write a module as one self-contained ONNX file.

    Parameters
    ----------
    examples
        What it is called with.
    inputs, outputs
        Their names in the file.
    dynamic_shapes
        Which of their axes are free, as `torch.onnx.export` takes it.
    """
    with quiet(EXPORTERS, [".*"]), torch.no_grad():
        program = torch.onnx.export(
            module,
            examples,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=dynamic_shapes,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        program.save(str(path), external_data=False)


def check_error(error: float) -> None:
    """Raise StepError when this is more than an ONNX model may differ from torch."""
    if not error <= MAX_ERROR:
        raise StepError(
            f"The ONNX model differs from the trained one by {error:.2g} (at most {MAX_ERROR:g} is allowed): "
            "an operation of the model is exported wrongly. Use other operations in models/."
        )


def relative_error(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Return the largest difference, relative to the larger of 1 and the largest expected number."""
    return float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))


def _compare(network: Network, example: Tensor, n: int, path: Path) -> float:
    features = example.repeat(-(-n // len(example)), 1, 1)[:n]
    with torch.no_grad():
        expected = network(features).numpy()
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    (found,) = session.run([OUTPUT], {INPUT: features.numpy()})
    return relative_error(found, expected)
