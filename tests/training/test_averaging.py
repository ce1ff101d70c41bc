from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from audioml.params import Params, TrainingParams
from audioml.training.averaging import WeightAverage, ema_decay, estimate_batchnorm, first_averaged_epoch
from audioml.training.checkpoints import BEST, LAST
from audioml.training.data import Windows
from audioml.training.fit import fit
from audioml.training.loader import WindowLoader
from audioml.training.network import load_network
from audioml.training.order import ShuffledOrder
from audioml.training.tracker import MemoryTracker

from ._small import small_params
from ._synthetic import BINS, SHAPE, make_data
from .test_fit import Killed, KillingTracker, assert_equal_runs, run


def learning_rates(state: Path, params: Params) -> list[float]:
    return [row["learning_rate"] for row in run(state, params).history]


def test_decay_rises_to_what_was_asked_for() -> None:
    decays = [ema_decay(n, 0.9) for n in range(200)]
    assert decays[:2] == [0.1, pytest.approx(2 / 11)]
    assert decays == sorted(decays)
    assert decays[-1] == 0.9


def test_moving_average_by_closed_form() -> None:
    network = nn.Linear(1, 1, bias=False)
    module: Any = SimpleNamespace(network=network, device="cpu")
    average = WeightAverage(TrainingParams(average="ema", ema_decay=0.5))
    expected = 0.0
    # The third batch only adds to the gradients of a step.
    for n, (value, step) in enumerate([(1.0, 1), (2.0, 2), (5.0, 2), (7.0, 3)]):
        nn.init.constant_(network.weight, value)
        trainer: Any = SimpleNamespace(global_step=step)
        average.on_train_batch_end(trainer, module, None, None, n)
        if n != 2:
            decay = ema_decay(step - 1, 0.5)
            expected = value if step == 1 else decay * expected + (1 - decay) * value
    average.on_validation_epoch_start(SimpleNamespace(current_epoch=0), module)  # type: ignore[arg-type]
    assert network.weight.item() == pytest.approx(expected)
    average.on_validation_epoch_end(SimpleNamespace(), module)  # type: ignore[arg-type]
    assert network.weight.item() == 7.0


def test_statistics_are_those_of_the_training_windows() -> None:
    features = make_data(48)[0]
    n = len(features.windows)
    windows = Windows(features, np.arange(n), np.arange(n), np.zeros((n, 1), np.float32), np.zeros(n, np.int64))
    order = ShuffledOrder(windows.frames, windows.shards, windows.window_bytes, 8, 0)
    network = nn.Sequential(nn.BatchNorm1d(BINS), nn.Dropout(0.5))
    network[0].momentum = 0.3
    estimate_batchnorm(network, WindowLoader(windows, order), 0)
    everything = np.stack(features.windows)
    np.testing.assert_allclose(network[0].running_mean, everything.mean(axis=(0, 2)), rtol=1e-5)
    np.testing.assert_allclose(network[0].running_var, everything.var(axis=(0, 2)), rtol=0.05)
    assert network[0].momentum == 0.3
    assert not network[0].training


@pytest.mark.parametrize("average", ["ema", "swa"])
def test_the_average_is_judged_and_kept_and_survives_a_kill(tmp_path: Path, average: str) -> None:
    params = small_params(average=average, max_epochs=4, checkpoint_every_steps=2, ema_decay=0.9)
    undisturbed = run(tmp_path / "a", params)
    last = torch.load(tmp_path / "a" / LAST, weights_only=True)
    trained = last["average"]["trained"]
    assert any(not torch.equal(trained[name], value) for name, value in last["state_dict"].items())
    assert last["average"]["n_updates"] == {"ema": 24, "swa": 1}[average]
    # Batches of an epoch are 6: the one is killed between the steps of the last epoch, the other at its end.
    with pytest.raises(Killed):
        run(tmp_path / "b", params, kill_at=23)
    assert_equal_runs(run(tmp_path / "b", params), undisturbed)
    with pytest.raises(Killed):
        run(tmp_path / "c", params, KillingTracker(4))
    assert_equal_runs(run(tmp_path / "c", params), undisturbed)

    features, manifest, splits = make_data()
    network = load_network(params, tmp_path / "a" / BEST, undisturbed.targets, SHAPE)
    judged = np.flatnonzero(splits["split"] == "validation")
    labels = torch.tensor([undisturbed.targets["labels"].index(label) for label in manifest["label"].iloc[judged]])
    with torch.no_grad():
        outputs = network(torch.from_numpy(features.take(judged)))
    loss = nn.functional.cross_entropy(outputs, labels, label_smoothing=0.1)
    assert float(loss) == pytest.approx(undisturbed.best["val_loss"], rel=1e-5)


def test_swa_holds_the_learning_rate_where_it_averages(tmp_path: Path) -> None:
    rates = learning_rates(tmp_path, small_params(average="swa", max_epochs=4))
    assert rates[2] == rates[3] > 0
    assert first_averaged_epoch(TrainingParams(max_epochs=1)) == 1


def test_short_runs_gain_from_the_warm_up_of_the_decay(tmp_path: Path) -> None:
    features, manifest, splits = make_data()
    params = small_params(average="ema", max_epochs=8)
    assert fit(params, features, manifest, splits, tmp_path, MemoryTracker()).best["val_accuracy"] > 0.9
