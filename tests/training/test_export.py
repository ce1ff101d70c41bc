from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from audioml.errors import StepError
from audioml.training.export import export_onnx
from audioml.training.fit import build_network
from audioml.training.network import Network

from ._synthetic import SHAPE, make_params


def make_network() -> Network:
    network = build_network(make_params(), {"labels": ["a", "b", "c"]}, SHAPE)
    network.set_standardisation(np.full(SHAPE[0], -40, np.float32), np.full(SHAPE[0], 5, np.float32))
    return network


def test_onnx_gives_what_torch_gives_for_any_batch_size(tmp_path: Path) -> None:
    network, path = make_network(), tmp_path / "model.onnx"
    example = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(0)) * 5 - 40
    assert export_onnx(network, example, path) < 1e-5
    session = onnxruntime.InferenceSession(str(path))
    for n in (1, 2, 7):
        features = torch.randn(n, *SHAPE) * 5 - 40
        with torch.no_grad():
            expected = network.eval()(features)
        (found,) = session.run(["outputs"], {"features": features.numpy()})
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_onnx_is_one_file(tmp_path: Path) -> None:
    export_onnx(make_network(), torch.zeros(1, *SHAPE), tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"), full_check=True)


class Unstable(nn.Module):
    """Differs between eager mode and the traced graph: a stand-in for an operation exported wrongly."""

    width = 4

    def forward(self, features: Tensor) -> Tensor:
        factor = 1.0 if torch.compiler.is_exporting() else 2.0
        return factor * features[:, :4]


def test_wrong_export_is_refused_and_nothing_written(tmp_path: Path) -> None:
    network = Network(Unstable(), nn.Flatten(), SHAPE[0])
    with pytest.raises(StepError, match="differs from the trained one"):
        export_onnx(network, torch.ones(1, *SHAPE), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []
