from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from audioml.errors import ParamsError, StepError
from audioml.params import Params, PluginSection
from audioml.training.network import build_network
from audioml.training.transfer import describe_network, save_weights, start_from

from ._small import small_params
from ._synthetic import BINS, SHAPE

TARGETS: dict[str, Any] = {"labels": ["high", "low", "middle"]}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    params = small_params({"dropout": 0.3}).model_copy(update={"seed": 8})
    path = tmp_path / "checkpoint.ckpt"
    save_weights(build_network(params, TARGETS, SHAPE), describe_network(params, TARGETS), path)
    return path


def test_equal_weights_make_equal_files(tmp_path: Path, checkpoint: Path) -> None:
    found = torch.load(checkpoint, weights_only=True)
    params = small_params()
    network = build_network(params, TARGETS, SHAPE)
    network.load_state_dict({name.removeprefix("network."): value for name, value in found["state_dict"].items()})
    save_weights(network, found["network"], tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == checkpoint.read_bytes()


@pytest.mark.parametrize(
    ("targets", "same"), [(TARGETS, True), ({"labels": ["a", "b", "c"]}, False), ({"labels": ["a", "b"]}, False)]
)
def test_body_is_taken_and_the_head_where_targets_are_the_same(
    checkpoint: Path, targets: dict[str, Any], same: bool
) -> None:
    params = small_params()
    network = build_network(params, targets, SHAPE)
    fresh_head = network.head[2].weight.clone()
    network.mean.fill_(5.0)
    assert start_from(network, checkpoint, params, targets) is same
    source = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert all(
        torch.equal(value, source[f"network.model.{name}"]) for name, value in network.model.state_dict().items()
    )
    expected = source["network.head.2.weight"] if same else fresh_head
    assert torch.equal(network.head[2].weight, expected)
    assert network.mean.unique() == 5.0, "standardisation is measured anew"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"width": 9}, r"model\.width \(8 there, 9 here\)"),
        ({"channels": [4, 4]}, r"model\.channels \(\[4\] there, \[4, 4\] here\)"),
    ],
)
def test_other_params_of_the_model_are_named(checkpoint: Path, model: dict[str, Any], message: str) -> None:
    params = small_params(model)
    with pytest.raises(ParamsError, match=message):
        start_from(build_network(params, TARGETS, SHAPE), checkpoint, params, TARGETS)


def test_a_model_for_streams_may_start_from_one_without_its_params(tmp_path: Path) -> None:
    """As one has that was trained before there were any."""

    def make_params(**own: Any) -> Params:
        model = PluginSection(name="crnn", channels=[4], hidden=4, bidirectional=False, **own)
        return small_params().model_copy(update={"model": model})

    before, now = make_params(), make_params(causal=True)
    described = describe_network(before, TARGETS)
    del described["model"]["params"]["causal"]
    save_weights(build_network(before, TARGETS, SHAPE), described, tmp_path / "checkpoint.ckpt")
    assert start_from(build_network(now, TARGETS, SHAPE), tmp_path / "checkpoint.ckpt", now, TARGETS)


def test_another_model_or_feature_is_named(checkpoint: Path) -> None:
    found = torch.load(checkpoint, weights_only=True)
    params = small_params()
    network = build_network(params, TARGETS, SHAPE)
    torch.save({**found, "network": {**found["network"], "model": {"name": "lstm", "params": {}}}}, checkpoint)
    with pytest.raises(ParamsError, match=r"is a 'lstm', but model\.name is 'rescnn'"):
        start_from(network, checkpoint, params, TARGETS)
    del found["state_dict"]["network.model.layers.0.0.weight"]
    torch.save(found, checkpoint)
    with pytest.raises(ParamsError, match=r"such as network\.model\.layers\.0\.0\.weight: .*features"):
        start_from(network, checkpoint, params, TARGETS)


def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    params = small_params()
    network = build_network(params, TARGETS, (BINS, None))
    for content in (b"", b"not a checkpoint"):
        (tmp_path / "some.ckpt").write_bytes(content)
        with pytest.raises(StepError, match=r"some\.ckpt can't be started from"):
            start_from(network, tmp_path / "some.ckpt", params, TARGETS)
    torch.save({"state_dict": {}}, tmp_path / "some.ckpt")
    with pytest.raises(StepError, match=r"some\.ckpt can't be started from"):
        start_from(network, tmp_path / "some.ckpt", params, TARGETS)
