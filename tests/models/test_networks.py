"""What every model owes to training, export and serving, whatever it is made of."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from audioml.plugins import load_plugin
from audioml.training.export import export_onnx
from audioml.training.network import Network

from ._networks import LABELS, NETWORKS, WAVEFORM, build, make_tones, with_head

SHAPES = [(40, 101), (13, 33), (128, 7), (1, 400), (5, 1)]


def shape_of(name: str, shape: tuple[int, int]) -> tuple[int, int]:
    return (1, 20 * shape[1] + 1) if name in WAVEFORM else shape


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_any_shape_gives_width_channels(name: str, shape: tuple[int, int]) -> None:
    bins, frames = shape_of(name, shape)
    model = build(name, (bins, frames))
    outputs = model(torch.randn(2, bins, frames))
    assert outputs.shape[:2] == (2, model.width)
    assert 1 <= outputs.shape[2] <= frames


@pytest.mark.parametrize("name", NETWORKS)
def test_every_parameter_learns(name: str) -> None:
    shape = shape_of(name, (16, 24))
    model = build(name, shape)
    features = torch.randn(4, *shape)
    # What comes frozen is for pretraining alone; several processes need gradients of all else from the task.
    model(features).square().mean().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    if hasattr(model, "pretraining_loss"):
        model.requires_grad_(True).pretraining_loss(features).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert 0 < parameter.grad.abs().sum() < math.inf, key


@pytest.mark.parametrize("name", NETWORKS)
def test_tones_are_learned_in_a_few_steps(name: str) -> None:
    features, labels = make_tones(name, 48)
    network = with_head(build(name, tuple(features.shape[1:])))
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(25):
        optimizer.zero_grad()
        cross_entropy(network(features), labels).backward()
        optimizer.step()
    assert cross_entropy(network(features), labels) < 0.3 * math.log(LABELS)


@pytest.mark.parametrize("name", NETWORKS)
def test_clips_do_not_influence_each_other_in_evaluation(name: str) -> None:
    shape = shape_of(name, (40, 30))
    model = build(name, shape).eval()
    features = torch.randn(4, *shape)
    with torch.no_grad():
        assert torch.allclose(model(features)[1:2], model(features[1:2]), atol=1e-5)


# Export takes its time a layer. That of bcresnet is in tests/training/test_export.py.
SHALLOW = {"mobilenet": {"blocks": 1}} | {key: {"layers": 1} for key in ("attention", "conformer", "gru", "lstm")}


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "bcresnet"])
def test_onnx_is_the_network(name: str, tmp_path: Path) -> None:
    """For any number of clips, and any number of frames unless the model says that it cannot."""
    bins, frames = shape_of(name, (13, 33))
    model = build(name, (bins, frames), **SHALLOW.get(name, {}))
    network = Network(model, with_head(model)[1:], bins)
    any_frames = not getattr(load_plugin("models", name), "FIXED_FRAMES", False)
    examples = [torch.randn(2, bins, n) for n in ([frames, 7, 2 * frames] if any_frames else [frames])]
    assert export_onnx(network, examples, tmp_path / "model.onnx", any_frames) < 1e-5
