"""Multiply-adds against torch's own counter and by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from audioml.evaluation.cost import count_multiply_adds, measure_cost
from audioml.store.files import write_json

SHAPE = (12, 20)
# The exporter by tracing is deprecated, but writes LSTM as one operator, and is fast.
pytestmark = pytest.mark.filterwarnings("ignore")


class Convolutions(nn.Module):
    """Grouped, strided and transposed convolutions, and a product with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 8, (3, 5), groups=4, padding=(1, 2)),
            nn.ConvTranspose2d(8, 4, 4, stride=2, padding=1),
            nn.Flatten(),
            nn.Linear(4 * 12 * 20, 3),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.body(features.unsqueeze(1))


class Attention(nn.Module):
    """A product of two results, and a layer over the last dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(12, 6, bias=False), nn.Linear(12, 6)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        frames = features.transpose(1, 2)
        return (self.query(frames) @ self.key(frames).transpose(1, 2)).softmax(dim=-1) @ frames


@pytest.mark.parametrize("network", [Convolutions(), Attention()], ids=["convolutions", "attention"])
def test_they_are_half_of_torchs_operations(network: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    torch.onnx.export(network.eval(), (torch.zeros(2, *SHAPE),), path, dynamo=False, dynamic_axes={"x": {0: "n"}},
                      input_names=["x"])  # fmt: skip
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(torch.zeros(1, *SHAPE))
    assert count_multiply_adds(path, SHAPE) == counter.get_total_flops() / 2


def test_recurrent_layers(tmp_path: Path) -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(12, 5, bidirectional=True, batch_first=True)

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return self.lstm(features.transpose(1, 2))[0]

    path = tmp_path / "model.onnx"
    torch.onnx.export(Recurrent(), (torch.zeros(1, *SHAPE),), path, dynamo=False)
    assert "LSTM" in {node.op_type for node in onnx.load(str(path)).graph.node}
    # 20 frames, two directions, four gates of 5 cells, each with 12 inputs and 5 states.
    assert count_multiply_adds(path, SHAPE) == 20 * 2 * 4 * 5 * (12 + 5)


def test_a_model_is_measured(
    tone_model: tuple[Path, dict[str, Any]], tone_wav: Callable[[float], bytes], tmp_path: Path
) -> None:
    network, description = tone_model
    shutil.copyfile(network, tmp_path / "model.onnx")
    write_json(tmp_path / "model.json", description)
    bins, frames = description["input_shape"]
    found = measure_cost(tmp_path, {"n_parameters": 80}, (bins, frames), [tone_wav(300.0)] * 3)
    assert (found.parameters, found.multiply_adds, found.timed_clips) == (80, 2 * bins, 3)
    assert found.size_bytes == network.stat().st_size
    assert 0 < found.latency_p50_s <= found.latency_p95_s
    assert measure_cost(tmp_path, {"n_parameters": 80}, (bins, frames), []).timed_clips == 0
