"""A network in ONNX with weights and activations of 8 bits: static quantization after the fit.

Source: Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
CVPR 2018 (arXiv 1712.05877), section 2; scales of weights by output channel as in Krishnamoorthi, "Quantizing deep
convolutional networks for efficient inference" (arXiv 1806.08342), section 3.1. onnxruntime does the work.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from audioml.store.files import write_atomic
from audioml.training.export import INPUT
from audioml.training.quiet import quiet

ROOT_LOGGER = ""
"""By which onnxruntime remarks on weights that have no channels."""


def quantize_network(network: Path, windows: Iterable[NDArray[np.float32]], path: Path) -> None:
    """Write a network with 8-bit weights and activations; equal inputs make equal files.

    Activations are unsigned and weights signed, which is what the integer dot products of x86 (VNNI) take; weights are
    scaled by output channel. All operators that have an integer kernel are quantized: where only some are, going to and
    from 8 bits costs more than it saves. Recurrent layers have none, and stay as they are.

    Parameters
    ----------
    network
        As `audioml.training.export.export_onnx` writes it.
    windows
        Features to measure the ranges of activations on, each float32 (bins, frames).
    path
        Written atomically.
    """
    with tempfile.TemporaryDirectory() as scratch, write_atomic(path) as temporary, quiet([ROOT_LOGGER], []):
        prepared, quantized = Path(scratch) / "prepared.onnx", Path(scratch) / "quantized.onnx"
        # Shapes are known from the export; deriving them from symbols fails for some networks.
        quant_pre_process(str(network), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(quantized),
            _Windows(windows),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        onnx.save(_strip(onnx.load(str(quantized))), str(temporary))


class _Windows(CalibrationDataReader):  # type: ignore[misc]
    """Gives windows one at a time, as they may differ in length."""

    def __init__(self, windows: Iterable[NDArray[np.float32]]) -> None:
        self._windows: Iterator[NDArray[np.float32]] = iter(windows)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """Return the inputs of the next run; None after the last."""
        window = next(self._windows, None)
        return None if window is None else {INPUT: window[np.newaxis]}


def _strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove what no runtime needs: names of nodes, where they come from, and shapes of what lies between them.

    In a small network that is as much as the weights.
    """
    graph = model.graph
    for item in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    for node in graph.node:
        node.ClearField("name")
    graph.ClearField("value_info")
    return model
