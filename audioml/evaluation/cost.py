"""What an answer costs: multiply-adds of the network, and the time from audio bytes to a prediction."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from audioml.inference.description import MODEL
from audioml.inference.predictor import Predictor

Shapes = Mapping[str, tuple[int, ...]]
Counter = Callable[[onnx.NodeProto, Shapes], int]


@dataclass(frozen=True)
class Cost:
    """Of one model."""

    parameters: int
    """Numbers that were learned."""
    multiply_adds: int
    """Of the network, for one window."""
    size_bytes: int
    """Of model.onnx."""
    latency_p50_s: float
    latency_p95_s: float
    """From an audio file in memory to a prediction, one clip at a time on one thread of this machine; NaN if no clip
    was timed."""
    timed_clips: int


def count_multiply_adds(network: Path, shape: tuple[int, int]) -> int:
    """Return the multiplications with addition that the network takes for one window of `shape` (bins, frames).

    Convolutions, matrix products and recurrent layers are counted; what is linear in the number of values
    (normalisation, activations, pooling) is not, as is usual (He et al. 2016, table 1). The window is run once with
    every intermediate result kept, so that the shapes are those that occur.
    """
    model = onnx.load(str(network))
    run_all = onnx.ModelProto()
    run_all.CopyFrom(model)
    known = {output.name for output in model.graph.output}
    names = [name for node in model.graph.node for name in node.output if name and name not in known]
    run_all.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # Optimisations merge nodes, and would change what is counted.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(run_all.SerializeToString(), options, providers=["CPUExecutionProvider"])
    window = np.zeros((1, *shape), np.float32)
    results = session.run(None, {session.get_inputs()[0].name: window})
    shapes = {output.name: np.shape(result) for output, result in zip(session.get_outputs(), results, strict=True)}
    shapes |= {weights.name: tuple(weights.dims) for weights in model.graph.initializer}
    shapes[session.get_inputs()[0].name] = window.shape
    return sum(COUNTERS[node.op_type](node, shapes) for node in model.graph.node if node.op_type in COUNTERS)


def _count_convolution(node: onnx.NodeProto, shapes: Shapes) -> int:
    # Weights are (channels out, channels in over groups, kernel...): each output value takes a product with one row.
    return int(np.prod(shapes[node.output[0]]) * np.prod(shapes[node.input[1]][1:]))


def _count_transposed(node: onnx.NodeProto, shapes: Shapes) -> int:
    return int(np.prod(shapes[node.input[0]]) * np.prod(shapes[node.input[1]][1:]))


def _count_product(node: onnx.NodeProto, shapes: Shapes) -> int:
    return int(np.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1])


def _count_gemm(node: onnx.NodeProto, shapes: Shapes) -> int:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return int(np.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else -1])


def _count_recurrent(node: onnx.NodeProto, shapes: Shapes) -> int:
    # Per direction, input weights (gates * hidden, input) and recurrent ones (gates * hidden, hidden), at each step.
    steps, batch, _ = shapes[node.input[0]]
    return int(steps * batch * (np.prod(shapes[node.input[1]]) + np.prod(shapes[node.input[2]])))


COUNTERS: Mapping[str, Counter] = {
    "Conv": _count_convolution,
    "ConvTranspose": _count_transposed,
    "Gemm": _count_gemm,
    "MatMul": _count_product,
    "GRU": _count_recurrent,
    "LSTM": _count_recurrent,
    "RNN": _count_recurrent,
}
"""By the operator's name in ONNX."""


def time_predictions(folder: Path, clips: Sequence[bytes], network: str = MODEL) -> list[float]:
    """Return the seconds from audio bytes to a prediction of each clip, alone and on one thread, after one to warm up.

    Parameters
    ----------
    folder
        As `Predictor.load` takes it.
    clips
        Whole audio files.
    network
        File of the network in the folder.
    """
    if not clips:
        return []
    predictor = Predictor.load(folder, threads=1, network=network)
    predictor.predict([clips[0]])
    seconds = []
    for data in clips:
        start = time.perf_counter()
        predictor.predict([data])
        seconds.append(time.perf_counter() - start)
    return seconds


def measure_cost(folder: Path, run: Mapping[str, Any], shape: tuple[int, int], clips: Sequence[bytes]) -> Cost:
    """Return what a packaged model costs.

    Parameters
    ----------
    folder
        As `Predictor.load` takes it.
    run
        models/run.json.
    shape
        (bins, frames) of a window.
    clips
        Audio files to time.
    """
    seconds = time_predictions(folder, clips)
    return Cost(
        parameters=int(run["n_parameters"]),
        multiply_adds=count_multiply_adds(folder / MODEL, shape),
        size_bytes=(folder / MODEL).stat().st_size,
        latency_p50_s=float(np.quantile(seconds, 0.5)) if seconds else np.nan,
        latency_p95_s=float(np.quantile(seconds, 0.95)) if seconds else np.nan,
        timed_clips=len(seconds),
    )
