from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from audioml.errors import StepError
from audioml.models import rescnn
from audioml.params import Params
from audioml.training import pretraining
from audioml.training.network import build_network
from audioml.training.tracker import MemoryTracker

from ._small import small_params
from ._synthetic import LABELS, SHAPE
from .test_fit import Killed, KillingTracker, assert_equal_runs, run, weights


class PretrainedParams(rescnn.Params):
    pretrain_epochs: int = 3


def spread(self: rescnn.ResidualNetwork, features: Tensor) -> Tensor:
    """Falls as windows get further from each other; what is learned here does not matter."""
    return -self(features).mean(dim=2).var(dim=0).mean().clamp(max=10.0)


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.setattr(rescnn, "Params", PretrainedParams)
    monkeypatch.setattr(rescnn.ResidualNetwork, "pretraining_loss", spread, raising=False)
    return small_params({"dropout": 0.2})


class KillingInPretraining(MemoryTracker):
    def log_metrics(self, metrics: object, step: int) -> None:
        if step == 2 and "pretrain_loss" in metrics:  # type: ignore[operator]
            raise Killed


def test_a_first_phase_with_a_history_of_its_own(tmp_path: Path, params: Params) -> None:
    tracker = MemoryTracker()
    result = run(tmp_path / "a", params, tracker)
    losses = [row["pretrain_loss"] for row in result.pretraining]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    assert [tracker.metrics[epoch]["pretrain_loss"] for epoch in (1, 2, 3)] == losses
    assert [row["epoch"] for row in result.history] == [1, 2]
    assert result.best in result.history
    without = run(tmp_path / "b", small_params({"dropout": 0.2, "pretrain_epochs": 0}))
    assert without.pretraining == []
    assert without.history[0]["train_loss"] != result.history[0]["train_loss"]


def test_a_run_killed_in_either_phase_resumes_bit_for_bit(tmp_path: Path, params: Params) -> None:
    undisturbed = run(tmp_path / "undisturbed", params)
    pretrained = torch.load(tmp_path / "undisturbed" / pretraining.FOLDER / "last.ckpt", weights_only=True)
    assert pretrained["epoch"] == 2
    for name, killer in {"a": KillingInPretraining(), "b": KillingTracker(1), "c": KillingTracker(2)}.items():
        if name == "b":
            # Between the phases: all of the first one is done, and nothing of the second is saved.
            killer.log_metrics = fail_after_pretraining  # type: ignore[method-assign]
        with pytest.raises(Killed):
            run(tmp_path / name, params, killer)
        assert_equal_runs(run(tmp_path / name, params), undisturbed)


def fail_after_pretraining(metrics: dict[str, float], step: int) -> None:
    if "val_loss" in metrics:
        raise Killed


def test_a_frozen_body_is_pretrained_all_the_same(tmp_path: Path, params: Params) -> None:
    params = params.model_copy(update={"training": params.training.model_copy(update={"freeze": "body"})})
    initial = build_network(params, {"labels": sorted(LABELS)}, SHAPE).state_dict()
    after = weights(run(tmp_path, params).checkpoint)
    pretrained = torch.load(tmp_path / pretraining.FOLDER / "last.ckpt", weights_only=True)["state_dict"]
    assert not torch.equal(after["network.model.layers.0.0.weight"], initial["model.layers.0.0.weight"])
    assert all(torch.equal(value, after[f"network.{name}"]) for name, value in pretrained.items())


def test_divergence_is_named(tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rescnn.ResidualNetwork, "pretraining_loss", lambda self, x: self(x).sum() * float("nan"))
    with pytest.raises(StepError, match="Pretraining diverged in epoch 1"):
        run(tmp_path, params)
