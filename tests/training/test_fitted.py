from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audioml.errors import ParamsError
from audioml.params import Params, PluginSection
from audioml.training.checkpoints import BEST
from audioml.training.fit import FitResult, fit
from audioml.training.fitted import fit_at_once
from audioml.training.network import load_network
from audioml.training.tracker import MemoryTracker

from ._synthetic import BINS, LABELS, SHAPE, MemoryFeatures, make_data, make_params


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


class KillingFeatures(MemoryFeatures):
    """Kills at a batch that is read."""

    kill_at = -1

    def take(self, indices: Any, fill: Any = 0.0, out: np.ndarray | None = None) -> np.ndarray:
        self.kill_at -= 1
        if self.kill_at == 0:
            raise Killed
        return super().take(indices, fill, out)


def params_of(name: str, features: dict[str, Any] | None = None, **keys: Any) -> Params:
    return make_params(features).model_copy(update={"model": PluginSection(name=name, **keys)})


def run(state: Path, params: Params, tracker: MemoryTracker | None = None, kill_at: int = -1, **data: Any) -> FitResult:
    features, manifest, splits = make_data(**data)
    features.__class__ = KillingFeatures
    features.kill_at = kill_at
    return fit(params, features, manifest, splits, state, tracker or MemoryTracker())


def test_learns_and_tells_the_tracker(tmp_path: Path) -> None:
    tracker = MemoryTracker()
    result = run(tmp_path, params_of("knn"), tracker)
    (row,) = result.history
    assert set(row) == {"epoch", "train_loss", "val_loss", "val_accuracy", "seconds"}
    assert row["epoch"] == result.best["epoch"] == 1
    assert row["val_accuracy"] == 1.0
    assert row["train_loss"] == pytest.approx(row["val_loss"], rel=0.1)
    assert row["val_loss"] < np.log(3)
    assert result.targets == {"labels": sorted(LABELS)}
    held = 2 * 60 + 48 * (60 + 3)
    assert result.n_parameters == held
    assert tracker.params == {"n_parameters": held, "train_clips": 48, "validation_clips": 12}
    assert tracker.metrics == {1: {name: value for name, value in row.items() if name != "epoch"}}


def test_losses_are_those_of_the_task_on_the_loaded_network(tmp_path: Path) -> None:
    params = params_of("svm")
    result = run(tmp_path, params)
    network = load_network(params, result.checkpoint, result.targets, SHAPE)
    features, manifest, splits = make_data()
    for split, name in (("train", "train_loss"), ("validation", "val_loss")):
        rows = np.flatnonzero(splits["split"] == split)
        labels = torch.tensor([result.targets["labels"].index(label) for label in manifest["label"].iloc[rows]])
        with torch.no_grad():
            outputs = network(torch.from_numpy(features.take(rows)))
        expected = torch.nn.functional.cross_entropy(outputs, labels, label_smoothing=0.1)
        assert result.history[0][name] == pytest.approx(float(expected), rel=1e-4)


def test_a_finished_fit_is_not_fitted_again(tmp_path: Path) -> None:
    first = run(tmp_path, params_of("tree"))
    before = (tmp_path / BEST).stat().st_mtime_ns
    tracker = MemoryTracker()
    again = run(tmp_path, params_of("tree"), tracker, kill_at=1)
    assert again.history == first.history
    assert again.n_parameters == first.n_parameters == tracker.params["n_parameters"]
    assert (tmp_path / BEST).stat().st_mtime_ns == before
    assert 1 in tracker.metrics


@pytest.mark.parametrize("training", [{"init_from": "digits@champion"}, {"freeze": "body"}])
def test_weights_to_start_from_are_refused(tmp_path: Path, training: dict[str, str]) -> None:
    params = params_of("tree")
    params = params.model_copy(update={"training": params.training.model_copy(update=training)})
    with pytest.raises(ParamsError, match=f"'tree' is fitted without .* Remove training.{next(iter(training))}, or"):
        run(tmp_path, params)


@pytest.mark.parametrize("kill_at", [1, 3])
def test_a_killed_fit_starts_again_and_ends_as_an_undisturbed_one(tmp_path: Path, kill_at: int) -> None:
    params = params_of("forest", trees=5)
    with pytest.raises(Killed):
        run(tmp_path / "killed", params, kill_at=kill_at)
    assert list((tmp_path / "killed").iterdir()) == []
    ends = [run(tmp_path / name, params) for name in ("killed", "undisturbed")]
    killed, undisturbed = (torch.load(end.checkpoint, weights_only=True)["state_dict"] for end in ends)
    assert killed.keys() == undisturbed.keys()
    assert all(torch.equal(killed[name], undisturbed[name]) for name in killed)


def test_the_seed_of_the_params_counts(tmp_path: Path) -> None:
    params = params_of("forest", trees=3)
    one = run(tmp_path / "a", params)
    other = run(tmp_path / "b", params.model_copy(update={"seed": 4}))
    assert one.history[0]["val_loss"] != other.history[0]["val_loss"]


def test_accuracy_is_of_clips_not_windows(tmp_path: Path) -> None:
    result = run(tmp_path, params_of("tree"), windows_per_clip=3)
    assert (result.history[0]["val_accuracy"] * 12) % 1 == pytest.approx(0.0, abs=1e-9)


def test_clips_of_their_own_lengths(tmp_path: Path) -> None:
    params = params_of("gmm", {"length": "whole"}, components=2)
    result = run(tmp_path, params, frames=(8, 30, 14, 9))
    assert result.best["val_accuracy"] == 1.0
    network = load_network(params, result.checkpoint, result.targets, (BINS, None))
    assert network(torch.full((2, BINS, 5), -40.0)).shape == (2, 3)


def test_templates_need_windows_of_one_length(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"'dtw' needs windows of one length.*features\.length"):
        run(tmp_path, params_of("dtw", {"length": "whole"}), frames=(8, 30))


def test_what_does_not_apply_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, params_of("tree"))
    told = capsys.readouterr().err
    assert told.count("tree is fitted at once: the sections augment and training do not apply") == 1
    assert "val_accuracy 1" in told
    run(tmp_path, params_of("tree"))
    assert capsys.readouterr().err == ""


def test_another_task_says_which_model_to_take(tmp_path: Path) -> None:
    params = params_of("svm").model_copy(update={"task": PluginSection(name="tagging")})
    with pytest.raises(ParamsError, match=r"'svm'.*'classification' only, but task\.name is 'tagging'"):
        fit_at_once(params, None, tmp_path, MemoryTracker())  # type: ignore[arg-type]
