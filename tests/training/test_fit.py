from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from audioml.errors import DatasetError, StepError
from audioml.params import Params
from audioml.training.checkpoints import BEST, LAST
from audioml.training.fit import FitResult, fit, load_network
from audioml.training.tracker import MemoryTracker, Tracker

from ._synthetic import LABELS, SHAPE, make_data, make_params


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


class KillingTracker(MemoryTracker):
    def __init__(self, at_epoch: int) -> None:
        super().__init__()
        self.at_epoch = at_epoch

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        if step == self.at_epoch:
            raise Killed
        super().log_metrics(metrics, step)


def run(state: Path, params: Params, tracker: Tracker | None = None) -> FitResult:
    features, manifest, splits = make_data()
    return fit(params, features, manifest, splits, state, tracker or MemoryTracker())


def weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def without_seconds(result: FitResult) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]


def test_learns_and_tells_the_tracker(tmp_path: Path) -> None:
    tracker = MemoryTracker()
    result = run(tmp_path, make_params(max_epochs=12), tracker)
    assert result.best["val_accuracy"] == 1.0
    assert result.targets == {"labels": sorted(LABELS)}
    assert sorted(tracker.metrics) == list(range(1, 13))
    assert set(result.history[0]) == {"epoch", "train_loss", "val_loss", "val_accuracy", "learning_rate", "seconds"}
    assert tracker.params == {"n_parameters": result.n_parameters, "train_clips": 48, "validation_clips": 12}
    assert result.history[0]["learning_rate"] > result.history[-1]["learning_rate"]


@pytest.mark.parametrize("at_epoch", [1, 3, 6])
def test_killed_run_resumes_bit_for_bit(tmp_path: Path, at_epoch: int) -> None:
    params = make_params()
    undisturbed = run(tmp_path / "undisturbed", params)
    with pytest.raises(Killed):
        run(tmp_path / "killed", params, KillingTracker(at_epoch))
    tracker = MemoryTracker()
    resumed = run(tmp_path / "killed", params, tracker)
    assert without_seconds(resumed) == without_seconds(undisturbed)
    assert sorted(tracker.metrics) == [1, 2, 3, 4, 5, 6]
    for name in (BEST, LAST):
        one, other = weights(tmp_path / "killed" / name), weights(tmp_path / "undisturbed" / name)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    params = make_params(max_epochs=30, patience=2, learning_rate=1e-6)
    first = run(tmp_path, params)
    assert len(first.history) < 30
    before = (tmp_path / LAST).read_bytes()
    assert run(tmp_path, params).history == first.history
    assert (tmp_path / LAST).read_bytes() == before


def test_seed_changes_the_result(tmp_path: Path) -> None:
    params = make_params(max_epochs=1)
    one = run(tmp_path / "a", params)
    other = run(tmp_path / "b", params.model_copy(update={"seed": 4}))
    assert one.history[0]["val_loss"] != other.history[0]["val_loss"]


def test_load_network_gives_the_best_epoch(tmp_path: Path) -> None:
    params = make_params()
    result = run(tmp_path, params)
    features, manifest, splits = make_data()
    network = load_network(params, result.checkpoint, result.targets, SHAPE)
    ids = set(splits.loc[splits["split"] == "validation", "clip_id"])
    chosen = [i for i, clip in enumerate(features.clip_ids) if clip in ids]
    with torch.no_grad():
        outputs = network(torch.from_numpy(features.take(chosen)))
    actual = [result.targets["labels"].index(label) for label in manifest["label"].iloc[chosen]]
    accuracy = (outputs.argmax(1) == torch.tensor(actual)).float().mean().item()
    assert accuracy == pytest.approx(result.best["val_accuracy"])


def test_validation_accuracy_is_of_clips_not_windows(tmp_path: Path) -> None:
    features, manifest, splits = make_data(windows_per_clip=3)
    result = fit(make_params(max_epochs=1), features, manifest, splits, tmp_path, MemoryTracker())
    assert (result.history[0]["val_accuracy"] * 12) % 1 == pytest.approx(0.0, abs=1e-9)


def test_empty_split_is_named(tmp_path: Path) -> None:
    features, manifest, splits = make_data()
    with pytest.raises(DatasetError, match="'validation' has no clips"):
        fit(make_params(), features, manifest, splits.assign(split="train"), tmp_path, MemoryTracker())


def test_clip_without_features_is_named(tmp_path: Path) -> None:
    features, manifest, splits = make_data()
    features.clip_ids[0] = "other"
    with pytest.raises(DatasetError, match="clip000"):
        fit(make_params(), features, manifest, splits, tmp_path, MemoryTracker())


def test_divergence_says_what_to_do(tmp_path: Path) -> None:
    features, manifest, splits = make_data()
    features.windows[:] = float("nan")
    with pytest.raises(StepError, match="learning_rate"):
        fit(make_params(max_epochs=1), features, manifest, splits, tmp_path, MemoryTracker())
    assert not (tmp_path / LAST).exists()
