from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from audioml.store.files import hash_file
from audioml.training.export import export_onnx
from audioml.training.quantize import quantize_network

from ._synthetic import SHAPE
from .test_export import make_network

WINDOWS = 40
FRAMES = (20, 33)


def make_windows(n: int, frames: int) -> np.ndarray:
    """Windows that differ in level and in which bins are loud."""
    rng = np.random.default_rng(frames)
    levels = rng.normal(-40, 10, (n, SHAPE[0], 1))
    return (levels + rng.normal(0, 5, (n, SHAPE[0], frames))).astype(np.float32)


def run(path: Path, features: np.ndarray) -> np.ndarray:
    (outputs,) = onnxruntime.InferenceSession(str(path)).run(["outputs"], {"features": features})
    return outputs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network and its 8-bit variant, calibrated on windows of two lengths."""
    folder = tmp_path_factory.mktemp("quantized")
    network = make_network(name="rescnn", channels=[16, 16], width=16)
    export_onnx(network, [torch.from_numpy(make_windows(4, FRAMES[0]))], folder / "float32.onnx", any_frames=True)
    windows = [window for frames in FRAMES for window in make_windows(WINDOWS, frames)]
    quantize_network(folder / "float32.onnx", windows, folder / "int8.onnx")
    return folder


@pytest.mark.parametrize("frames", FRAMES)
def test_outputs_are_near_those_of_float32_for_any_batch_size_and_length(folder: Path, frames: int) -> None:
    for n in (1, 7):
        features = make_windows(n, frames)
        expected, found = (run(folder / f"{name}.onnx", features) for name in ("float32", "int8"))
        spread = run(folder / "float32.onnx", make_windows(WINDOWS, frames)).std(axis=0)
        assert np.abs(found - expected).max() < 0.1 * spread.max()
        assert np.abs(found - expected).max() > 0


def test_weights_have_8_bits_by_channel_and_the_file_is_smaller(folder: Path) -> None:
    path = folder / "int8.onnx"
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    kernels = [weights for weights in model.graph.initializer if len(weights.dims) == 4]
    assert {weights.data_type for weights in kernels} == {TensorProto.INT8}
    scales = {weights.name: weights.dims for weights in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in {kernel.name for kernel in kernels}:
            assert scales[node.input[1]] == [scales[node.input[0]][0]]
    n_floats = sum(np.prod(weights.dims) for weights in kernels)
    assert (folder / "float32.onnx").stat().st_size - path.stat().st_size > 3 * n_floats


def test_equal_inputs_make_equal_files(folder: Path, tmp_path: Path) -> None:
    windows = [window for frames in FRAMES for window in make_windows(WINDOWS, frames)]
    quantize_network(folder / "float32.onnx", windows, tmp_path / "again.onnx")
    assert hash_file(tmp_path / "again.onnx") == hash_file(folder / "int8.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["again.onnx"]
