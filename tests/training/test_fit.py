from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audioml.errors import DatasetError, ParamsError, StepError
from audioml.params import Params
from audioml.training.checkpoints import BEST, LAST
from audioml.training.fit import FitResult, fit, silent_bins
from audioml.training.network import build_network, load_network
from audioml.training.tracker import MemoryTracker, Tracker

from ._synthetic import BINS, FRAMES, LABELS, SHAPE, MemoryFeatures, make_data, make_params


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


class KillingFeatures(MemoryFeatures):
    """Kills where a batch of training is read."""

    kill_at = -1

    def take(self, indices: Any, fill: Any = 0.0, out: np.ndarray | None = None) -> np.ndarray:
        self.kill_at -= out is not None
        if self.kill_at == 0:
            raise Killed
        return super().take(indices, fill, out)


def run(
    state: Path, params: Params, tracker: Tracker | None = None, kill_at: int = -1, frames: Sequence[int] = (FRAMES,)
) -> FitResult:
    features, manifest, splits = make_data(frames=frames)
    features.__class__ = KillingFeatures
    features.kill_at = kill_at
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


def assert_equal_runs(one: FitResult, other: FitResult) -> None:
    assert without_seconds(one) == without_seconds(other)
    for name in (BEST, LAST):
        first, second = weights(one.checkpoint.with_name(name)), weights(other.checkpoint.with_name(name))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> FitResult:
    return run(tmp_path_factory.mktemp("undisturbed"), make_params())


@pytest.mark.parametrize("at_epoch", [1, 3, 6])
def test_killed_run_resumes_bit_for_bit(tmp_path: Path, at_epoch: int, undisturbed: FitResult) -> None:
    with pytest.raises(Killed):
        run(tmp_path, make_params(), KillingTracker(at_epoch))
    tracker = MemoryTracker()
    resumed = run(tmp_path, make_params(), tracker)
    assert sorted(tracker.metrics) == [1, 2, 3, 4, 5, 6]
    assert_equal_runs(resumed, undisturbed)


def kill_in_mid_epoch(state: Path, params: Params, kill_at: int, frames: Sequence[int] = (FRAMES,)) -> None:
    with pytest.raises(Killed):
        run(state, params, frames=frames, kill_at=kill_at)
    loops = torch.load(state / LAST, weights_only=True)["loops"]
    (loader,) = loops["fit_loop"]["state_dict"]["combined_loader"]
    assert 0 < loader["n_done"] < loader["n_batches"] == 6


@pytest.mark.parametrize("kill_at", [5, 23])
def test_run_killed_in_mid_epoch_resumes_bit_for_bit(tmp_path: Path, kill_at: int, undisturbed: FitResult) -> None:
    params = make_params(checkpoint_every_steps=2)
    kill_in_mid_epoch(tmp_path, params, kill_at)
    assert_equal_runs(run(tmp_path, params), undisturbed)


def test_run_on_whole_clips_killed_in_mid_epoch_resumes_bit_for_bit(tmp_path: Path) -> None:
    params, frames = make_params({"length": "whole"}, checkpoint_every_steps=2, max_epochs=2), (8, 30, 14, 9)
    kill_in_mid_epoch(tmp_path / "killed", params, 16, frames)
    resumed = run(tmp_path / "killed", params, frames=frames)
    assert_equal_runs(resumed, run(tmp_path / "undisturbed", params, frames=frames))


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


def test_load_network_gives_the_best_epoch(undisturbed: FitResult) -> None:
    params, result = make_params(), undisturbed
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


def test_silence_is_what_the_feature_makes_of_it() -> None:
    np.testing.assert_allclose(silent_bins(make_params()), np.full(BINS, -100.0))


def test_a_model_that_needs_windows_of_one_length_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audioml.models.bcresnet.FIXED_FRAMES", True, raising=False)
    build_network(make_params(), {"labels": LABELS}, SHAPE)
    with pytest.raises(ParamsError, match=r"'bcresnet' needs windows of one length.*features\.length"):
        build_network(make_params(), {"labels": LABELS}, (BINS, None))


def test_clips_in_quarantine_are_left_out_and_counted(tmp_path: Path) -> None:
    features, manifest, splits = make_data()
    features.clip_ids[[0, 4]] = "other"
    features.quarantined = {"clip000": "unreadable", "clip004": "unreadable"}
    tracker = MemoryTracker()
    result = fit(make_params(max_epochs=1), features, manifest, splits, tmp_path, tracker)
    assert result.n_quarantined == 2
    counts = {"train_clips": 47, "validation_clips": 11, "quarantined_clips": 2}
    assert tracker.params == {"n_parameters": result.n_parameters, **counts}


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
    for window in features.windows:
        window[:] = float("nan")
    with pytest.raises(StepError, match="learning_rate"):
        fit(make_params(max_epochs=1), features, manifest, splits, tmp_path, MemoryTracker())
    assert not (tmp_path / LAST).exists()
