"""What makes up an optimizer step: gradient accumulation, precision, penalties."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from audioml.params import TrainingParams
from audioml.training.checkpoints import LAST
from audioml.training.export import export_onnx
from audioml.training.module import TrainingModule
from audioml.training.network import load_network

from ._small import small_params
from ._synthetic import SHAPE, make_data
from .test_fit import Killed, assert_equal_runs, run, weights


def read_last(state: Path) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(state / LAST, weights_only=True)
    return checkpoint


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    # Statistics of batches are all that differs, so they are frozen.
    whole = run(tmp_path / "whole", small_params(batch_size=16, freeze="batchnorm"))
    parts = run(tmp_path / "parts", small_params(batch_size=4, accumulate_batches=4, freeze="batchnorm"))
    assert read_last(tmp_path / "whole")["global_step"] == read_last(tmp_path / "parts")["global_step"] == 6
    assert parts.history[-1]["learning_rate"] == whole.history[-1]["learning_rate"]
    for one, other in zip(whole.history, parts.history, strict=True):
        assert one["val_loss"] == pytest.approx(other["val_loss"], rel=1e-5)
    one, other = weights(whole.checkpoint), weights(parts.checkpoint)
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=1e-3, atol=1e-5)


def test_the_last_step_of_an_epoch_may_have_fewer_batches(tmp_path: Path) -> None:
    module: Any = SimpleNamespace(training_params=TrainingParams(accumulate_batches=4), batches_per_epoch=6)
    shares = [TrainingModule._share_of_step(module, i) for i in range(6)]
    # Lightning divides each loss by 4.
    assert [share / 4 for share in shares] == [0.25, 0.25, 0.25, 0.25, 0.5, 0.5]
    params = small_params(accumulate_batches=4, checkpoint_every_steps=1)
    undisturbed = run(tmp_path / "a", params)
    assert read_last(tmp_path / "a")["global_step"] == 4
    with pytest.raises(Killed):
        run(tmp_path / "b", params, kill_at=6)
    assert read_last(tmp_path / "b")["global_step"] == 1
    assert_equal_runs(run(tmp_path / "b", params), undisturbed)


def test_half_precision_trains_and_exports_single_precision(tmp_path: Path) -> None:
    params = small_params(precision="bf16-mixed", deterministic=False, max_epochs=4)
    result = run(tmp_path, params)
    assert result.history[-1]["train_loss"] < result.history[0]["train_loss"]
    assert {value.dtype for value in weights(result.checkpoint).values() if value.is_floating_point()} == {
        torch.float32
    }
    network = load_network(params, result.checkpoint, result.targets, SHAPE)
    features = torch.from_numpy(make_data()[0].take([0, 1]))
    export_onnx(network, [features], tmp_path / "model.onnx")


def test_l1_makes_weights_smaller(tmp_path: Path) -> None:
    sums = {}
    for l1 in (0.0, 0.1):
        found = weights(run(tmp_path / str(l1), small_params(l1=l1, max_epochs=3)).checkpoint)
        sums[l1] = sum(float(value.abs().sum()) for value in found.values() if value.ndim > 2)
    assert sums[0.1] < 0.9 * sums[0.0]
