from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from audioml.errors import StepError
from audioml.params import PluginSection
from audioml.training.export import export_onnx
from audioml.training.network import Network, build_network

from ._synthetic import SHAPE, make_params


def make_network(**model: Any) -> Network:
    params = make_params()
    if model:
        params = params.model_copy(update={"model": PluginSection(**model)})
    network = build_network(params, {"labels": ["a", "b", "c"]}, SHAPE)
    network.set_standardisation(np.full(SHAPE[0], -40, np.float32), np.full(SHAPE[0], 5, np.float32))
    return network


def test_onnx_gives_what_torch_gives_for_any_batch_size_and_length(tmp_path: Path) -> None:
    network, path = make_network(), tmp_path / "model.onnx"
    generator = torch.Generator().manual_seed(0)
    examples = [torch.randn(4, SHAPE[0], frames, generator=generator) * 5 - 40 for frames in (1, 20)]
    assert export_onnx(network, examples, path, any_frames=True) < 1e-5
    session = onnxruntime.InferenceSession(str(path))
    for n, frames in ((1, 20), (2, 1), (7, 2), (2, 333)):
        features = torch.randn(n, SHAPE[0], frames) * 5 - 40
        with torch.no_grad():
            expected = network.eval()(features)
        (found,) = session.run(["outputs"], {"features": features.numpy()})
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_onnx_of_windows_of_one_length_takes_any_batch_size_and_no_other_length(tmp_path: Path) -> None:
    # Few layers, as each takes its time.
    network, path = make_network(name="rescnn", channels=[8], width=8), tmp_path / "model.onnx"
    export_onnx(network, [torch.zeros(1, *SHAPE)], path)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(onnx.load(path), full_check=True)
    (taken,) = onnxruntime.InferenceSession(str(path)).get_inputs()
    assert taken.shape == ["n", *SHAPE]


class Unstable(nn.Module):
    """Differs between eager mode and the traced graph: a stand-in for an operation exported wrongly."""

    width = 4

    def forward(self, features: Tensor) -> Tensor:
        factor = 1.0 if torch.compiler.is_exporting() else 2.0
        return factor * features[:, :4]


def test_wrong_export_is_refused_and_nothing_written(tmp_path: Path) -> None:
    network = Network(Unstable(), nn.Flatten(), SHAPE[0])
    with pytest.raises(StepError, match="differs from the trained one"):
        export_onnx(network, [torch.ones(1, *SHAPE)], tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
