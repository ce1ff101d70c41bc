from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from audioml.models import gru, lstm
from audioml.training.export import export_onnx
from audioml.training.network import Network

MODULES = {"lstm": lstm, "gru": gru}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_later_frames_matter_in_both_directions_only(name: str, bidirectional: bool) -> None:
    module = MODULES[name]
    model = module.build(module.Params(hidden=5, bidirectional=bidirectional), (4, 9)).eval()
    x = torch.randn(1, 4, 9)
    changed = x.clone()
    changed[:, :, 6:] += 1.0
    with torch.no_grad():
        before, after = model(x), model(changed)
    assert before.shape == (1, 10 if bidirectional else 5, 9)
    assert torch.allclose(before[:, :, :6], after[:, :, :6]) is not bidirectional
    assert not torch.allclose(before[:, :, 6:], after[:, :, 6:])


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_onnx_has_one_operator_a_layer(name: str, bidirectional: bool, tmp_path: Path) -> None:
    """And not a loop, nor a copy of the cell for each frame."""
    module = MODULES[name]
    torch.manual_seed(0)
    model = module.build(module.Params(hidden=5, layers=2, bidirectional=bidirectional), (4, 9))
    network, path = Network(model, nn.Identity(), 4), tmp_path / "model.onnx"
    examples = [3 * torch.randn(3, 4, frames) for frames in (9, 1, 30)]
    assert export_onnx(network, examples, path, any_frames=True) < 1e-6
    operators = [node.op_type for node in onnx.load(path).graph.node]
    assert operators.count(name.upper()) == 2
    assert "Loop" not in operators
