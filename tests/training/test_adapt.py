from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from audioml.errors import ParamsError
from audioml.training.adapt import add_low_rank, merge_low_rank
from audioml.training.export import export_onnx
from audioml.training.fit import FitResult, fit
from audioml.training.network import build_network, load_network
from audioml.training.tracker import MemoryTracker
from audioml.training.transfer import describe_network, save_weights

from ._small import small_params
from ._synthetic import LABELS, SHAPE, make_data
from .test_fit import Killed, KillingTracker, assert_equal_runs, run, weights


class Body(nn.Sequential):
    """A depthwise and a plain convolution, and a linear layer."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(6, 6, 3, groups=6), nn.Conv1d(5, 4, 1), nn.Linear(7, 2), nn.BatchNorm1d(3))


def test_a_change_starts_at_nothing_has_its_rank_and_is_merged() -> None:
    torch.manual_seed(0)
    body = Body()
    before = {name: value.clone() for name, value in body.state_dict().items()}
    add_low_rank(body, 2, seed=1)
    assert all(torch.equal(getattr(body[i], "weight"), before[f"{i}.weight"]) for i in range(3))  # noqa: B009
    for name, parameter in body.named_parameters():
        if name.endswith(".up"):
            nn.init.normal_(parameter)
    adapted = [body[i].weight.detach().clone() for i in range(3)]
    merge_low_rank(body)
    assert body.state_dict().keys() == before.keys()
    for i, weight in enumerate(adapted):
        torch.testing.assert_close(body[i].weight, weight)
        change = (weight - before[f"{i}.weight"]).flatten(1)
        assert torch.linalg.matrix_rank(change, rtol=1e-4) == 2


def test_a_model_without_such_layers_says_so() -> None:
    with pytest.raises(ParamsError, match="no linear or convolutional layer"):
        add_low_rank(nn.Sequential(nn.LSTM(3, 3)), 2, 0)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    return run(tmp_path_factory.mktemp("source"), small_params(max_epochs=3))


def test_lora_trains_the_changes_and_the_head_alone(tmp_path: Path, source: FitResult) -> None:
    params = small_params(init_from="some.ckpt", adapt="lora", rank=2, max_epochs=3)
    features, manifest, splits = make_data()
    tracker = MemoryTracker()
    result = fit(params, features, manifest, splits, tmp_path / "a", tracker, source.checkpoint)
    assert tracker.params["n_trained"] == result.n_trained < result.n_parameters == source.n_parameters
    assert tracker.params["trained_share"] == round(result.n_trained / result.n_parameters, 4)
    before, after = weights(source.checkpoint), weights(result.checkpoint)
    kept = [name for name in after if name.endswith((".original", "running_mean", "1.bias"))]
    assert all(
        torch.equal(after[name], before[name.replace(".parametrizations.weight.original", ".weight")]) for name in kept
    )
    assert any(value.abs().sum() > 0 for name, value in after.items() if name.endswith(".up"))

    network = load_network(params, result.checkpoint, result.targets, SHAPE)
    export_onnx(network, [torch.from_numpy(features.take([0, 1]))], tmp_path / "model.onnx")
    assert b"parametrizations" not in (tmp_path / "model.onnx").read_bytes()
    save_weights(network, describe_network(params, result.targets), tmp_path / "merged.ckpt")
    again = load_network(params, tmp_path / "merged.ckpt", result.targets, SHAPE)
    assert again.state_dict().keys() == build_network(params, {"labels": LABELS}, SHAPE).state_dict().keys()

    with pytest.raises(Killed):
        fit(params, features, manifest, splits, tmp_path / "b", KillingTracker(2), source.checkpoint)
    resumed = fit(params, features, manifest, splits, tmp_path / "b", MemoryTracker(), source.checkpoint)
    assert_equal_runs(resumed, result)


def test_a_frozen_body_stays_and_only_the_head_learns(tmp_path: Path) -> None:
    params = small_params(freeze="body")
    initial = build_network(params, {"labels": sorted(LABELS)}, SHAPE).state_dict()
    result = run(tmp_path, params)
    after = {name.removeprefix("network."): value for name, value in weights(result.checkpoint).items()}
    assert all(torch.equal(after[name], initial[name]) for name in after if name.startswith("model."))
    assert result.n_trained == sum(v.numel() for name, v in initial.items() if name.startswith("head."))
    assert not torch.equal(after["head.2.weight"], initial["head.2.weight"])


def test_frozen_batch_normalisations_stay_while_the_rest_learns(tmp_path: Path) -> None:
    params = small_params(freeze="batchnorm")
    initial = build_network(params, {"labels": sorted(LABELS)}, SHAPE).state_dict()
    after = weights(run(tmp_path, params).checkpoint)
    stayed = {name for name, value in initial.items() if torch.equal(after[f"network.{name}"], value)}
    of_normalisations = {name for name in initial if name.rpartition(".")[0] + ".running_mean" in initial}
    assert stayed >= of_normalisations
    assert not any(name.endswith("weight") for name in stayed - of_normalisations)
