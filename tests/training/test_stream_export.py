from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from audioml.errors import StepError
from audioml.models._causal import Memory
from audioml.plugins import load_plugin
from audioml.training.export import export_onnx
from audioml.training.network import Network
from audioml.training.stream_export import export_stream
from tests.models._streams import STREAMING

BINS = 13
# Export takes its time a layer.
SHALLOW = {"layers": 1}


@pytest.mark.parametrize("case", STREAMING)
def test_both_files_are_the_network(case: str, tmp_path: Path) -> None:
    """That of whole clips takes any number of them and of frames; that of streams, part by part, gives the same."""
    name, params, block = STREAMING[case]
    plugin = load_plugin("models", name)
    torch.manual_seed(0)
    model = plugin.build(plugin.Params(**params | SHALLOW), (BINS, None))
    network = Network(model, nn.Conv1d(model.width, 5, 1), BINS)
    examples = [2 * torch.randn(2, BINS, frames) for frames in (1, 3 * block + 1, 100)]
    assert export_onnx(network, examples, tmp_path / "model.onnx", any_frames=True) < 1e-5
    assert export_stream(network, examples, tmp_path / "stream.onnx", block) < 1e-5
    session = onnxruntime.InferenceSession(str(tmp_path / "stream.onnx"))
    assert session.get_inputs()[0].shape == [1, BINS, "frames"]
    kept = [node.shape for node in session.get_inputs()[1:]]
    assert kept == [node.shape for node in session.get_outputs()[1:]]
    assert all(isinstance(size, int) for shape in kept for size in shape)


class Forgetful(nn.Module):
    """Keeps something, but hears each part as if it were the first."""

    width = BINS

    def forward(self, features: Tensor, memory: Memory | None = None) -> Tensor:
        if memory is not None:
            memory.keep(0 * memory.recall(torch.zeros(1)) + features[0, 0, -1:])
        return features.cumsum(dim=2)


def test_a_network_that_forgets_is_refused_and_nothing_written(tmp_path: Path) -> None:
    network = Network(Forgetful(), nn.Identity(), BINS)
    with pytest.raises(StepError, match="differs from the trained one"):
        export_stream(network, [torch.ones(1, BINS, 9)], tmp_path / "stream.onnx", block=2)
    assert list(tmp_path.iterdir()) == []
