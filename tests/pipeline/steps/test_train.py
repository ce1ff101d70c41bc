from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from audioml.errors import ParamsError, StepError, StoreError
from audioml.evaluation.outputs import predict_stored
from audioml.inference.description import Description
from audioml.inference.predictor import Predictor, open_session
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import collect_step, plan_step, run_step, work_item
from audioml.pipeline.steps import train
from audioml.pipeline.transfer_source import describe_source, look_up_source, source_path
from audioml.store.features import open_features
from audioml.store.files import hash_file, read_json, write_json
from audioml.store.manifest import SPLITS, read_splits
from audioml.store.training_clips import TRAINING_CLIPS, read_training_clips
from audioml.training.network import build_network
from audioml.training.tracker import MemoryTracker
from audioml.training.transfer import describe_network, save_weights

from ._train_space import SHAPE, make_workspace

UNKNOWN_SHARE = 0.4


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


class Runs(MemoryTracker):
    """Stands for the MLflow server: knows which runs were opened, and kills at an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.run_id = ""
        self.kill_at_epoch: int | None = None

    def set_tags(self, tags: Mapping[str, str]) -> None:
        self.tags = dict(tags)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        if step == self.kill_at_epoch:
            raise Killed
        super().log_metrics(metrics, step)

    @contextmanager
    def training_run(self, ctx: Context, run_id: str | None = None) -> Iterator[Runs]:
        self.run_id = run_id or f"run{len(self.opened)}"
        self.opened.append(self.run_id)
        yield self


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    runs = Runs()
    monkeypatch.setattr("audioml.registry.runs.training_run", runs.training_run)

    def save(folder: Path, *, onnx: Path, description: dict[str, Any], example_audio: bytes, **_: Any) -> None:
        write_json(folder / "package.json", {"onnx": hash_file(onnx), "audio": example_audio.decode(), **description})

    monkeypatch.setattr("audioml.registry.package.save_package", save)
    return runs


def test_missing_inputs_name_their_step(tmp_path: Path) -> None:
    ctx = make_workspace(tmp_path)
    ctx.path(SPLITS).unlink()
    with pytest.raises(StepError, match="audioml run split"):
        train.plan(ctx)


def test_writes_model_package_and_run(tmp_path: Path, runs: Runs) -> None:
    ctx = make_workspace(tmp_path)
    task = ctx.params.task.model_copy(update={"unknown_share": UNKNOWN_SHARE})
    ctx = replace(ctx, params=ctx.params.model_copy(update={"task": task}))
    summary = run_step(ctx, find_step("train"))
    run = read_json(ctx.path("models/run.json"))
    assert run["run_id"] == summary["run_id"] == "run0"
    assert [row["epoch"] for row in run["history"]] == [1, 2, 3, 4]
    assert run["metrics"]["val_loss"] == min(row["val_loss"] for row in run["history"])
    assert run["onnx_max_error"] < 1e-4
    package = read_json(ctx.path("models/package/package.json"))
    assert package["onnx"] == hash_file(ctx.path("models/model.onnx"))
    assert package["targets"]["labels"] == ["high", "low"]
    assert package["features"] == {"name": "logmel", "params": {"n_mels": SHAPE[0]}}
    assert package["clean"] == [{"name": "remove_dc", "params": {}}]
    assert package["audio"] == "audio 00"
    assert runs.metrics[run["best_epoch"]]["best_val_loss"] == run["metrics"]["val_loss"]
    clips = read_training_clips([ctx.path(TRAINING_CLIPS)])
    assert clips["split"].value_counts().to_dict() == {"train": 20, "validation": 10}
    assert clips["packaged"].sum() == 9
    # What the validation clips teach after the fit is part of the package.
    assert package["temperature"] != 1
    shape = tuple(package.pop("input_shape"))
    known = {name: value for name, value in package.items() if name not in ("onnx", "audio")}
    predictor = Predictor.of(Description(**known, input_shape=shape), open_session(ctx.path("models/model.onnx")))
    splits = read_splits(ctx.path(SPLITS))
    clip_ids = splits.loc[splits["split"] == "validation", "clip_id"].tolist()
    confidence = predict_stored(predictor, open_features(ctx.path("features")), clip_ids).max(axis=1)
    below = package["targets"]["unknown_below"]
    assert np.mean(confidence < below - 1e-6) <= UNKNOWN_SHARE < np.mean(confidence <= below + 1e-6)


FITTED = {
    "dbn": {"layers": [24, 8], "epochs": 2},
    "dtw": {"templates": 2, "max_frames": 6},
    "forest": {"trees": 5, "max_depth": 3},
    "gmm": {"components": 2},
    "knn": {},
    "svm": {"kernel": "linear"},
    "tree": {"max_depth": 3},
}


@pytest.mark.parametrize("name", FITTED)
def test_models_without_gradient_descent_leave_what_others_leave(tmp_path: Path, runs: Runs, name: str) -> None:
    # No device is leased: this machine may have none.
    ctx = make_workspace(tmp_path, {"name": name, **FITTED[name]}, accelerator="gpu")
    summary = run_step(ctx, find_step("train"))
    run = read_json(ctx.path("models/run.json"))
    assert summary["epochs"] == run["best_epoch"] == len(run["history"]) == 1
    assert run["n_parameters"] == runs.params["n_parameters"] > 0
    assert run["onnx_max_error"] < 1e-4
    assert run["metrics"]["val_accuracy"] > 0.8
    assert read_json(ctx.path("models/package/package.json"))["onnx"] == hash_file(ctx.path("models/model.onnx"))
    assert runs.metrics[1]["best_val_loss"] == run["metrics"]["val_loss"]


def test_killed_fit_is_taken_up_in_the_same_run_and_ends_as_an_undisturbed_one(tmp_path: Path, runs: Runs) -> None:
    undisturbed = make_workspace(tmp_path / "undisturbed")
    run_step(undisturbed, find_step("train"))
    killed = make_workspace(tmp_path / "killed")
    runs.kill_at_epoch = 3
    with pytest.raises(Killed):
        run_step(killed, find_step("train"))
    runs.kill_at_epoch = None
    run_step(killed, find_step("train"))
    assert runs.opened == ["run0", "run1", "run1"]
    one, other = (hash_file(ctx.path("models/model.onnx")) for ctx in (undisturbed, killed))
    assert one == other


def test_a_finished_fit_is_repeated_by_a_new_run_only(tmp_path: Path, runs: Runs) -> None:
    ctx = make_workspace(tmp_path, max_epochs=1)
    step = find_step("train")
    run_step(ctx, step)
    collect_step(ctx, step)
    assert runs.opened == ["run0"]
    # Not yet collected, as a kill leaves it.
    (ctx.state / "training" / train.fit_key(ctx)[:16] / train.COLLECTED).unlink()
    work_item(ctx, step, "fit")
    assert runs.opened == ["run0"]
    collect_step(ctx, step)
    run_step(ctx, step)
    assert runs.opened == ["run0", "run1"]


def test_changed_params_start_anew(tmp_path: Path, runs: Runs) -> None:
    before = train.fit_key(make_workspace(tmp_path))
    assert train.fit_key(make_workspace(tmp_path)) == before
    changed = make_workspace(tmp_path, learning_rate=0.001)
    assert train.fit_key(changed) != before
    with pytest.raises(StepError, match="no finished training"):
        collect_step(changed, find_step("train"))


def test_starts_from_a_checkpoint_and_says_so(tmp_path: Path, runs: Runs) -> None:
    params, path = make_workspace(tmp_path / "source").params, tmp_path / "source.ckpt"
    network = build_network(params, {"labels": ["a", "b", "c"]}, SHAPE)
    save_weights(network, describe_network(params, {"labels": ["a", "b", "c"]}), path)
    ctx = make_workspace(tmp_path / "own", max_epochs=1, init_from=str(path), adapt="lora", rank=1)
    with pytest.raises(StepError, match="was not looked up yet"):
        train.fit_key(ctx)
    summary = run_step(ctx, find_step("train"))
    run = read_json(ctx.path("models/run.json"))
    assert run["init_from"] == {"model": str(path), "sha256": hash_file(path)}
    assert runs.tags == {"audioml.init_from": str(path)}
    # One label less than the source has.
    n_head = network.head[2].in_features + 1
    assert run["n_trained"] < run["n_parameters"] == network.n_parameters - n_head
    assert summary["trained_share"] == run["trained_share"] == round(run["n_trained"] / run["n_parameters"], 4)
    key = train.fit_key(ctx)
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(StepError, match="has changed since the training began"):
        source_path(ctx)
    look_up_source(ctx)
    assert train.fit_key(ctx) != key


def test_a_path_that_leads_nowhere_is_named(tmp_path: Path, runs: Runs) -> None:
    ctx = make_workspace(tmp_path, init_from="../other/models/checkpoint.ckpt")
    with pytest.raises(ParamsError, match=r"init_from is '\.\./other/models/checkpoint\.ckpt', but .* is no file"):
        run_step(ctx, find_step("train"))
    assert runs.opened == []


def test_an_alias_that_moves_meanwhile_changes_nothing(
    tmp_path: Path, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / "1.ckpt", tmp_path / "2.ckpt"]
    for number, file in enumerate(files):
        file.write_bytes(bytes([number]))
    champion = [1]

    def fetch(ctx: Context, reference: str) -> tuple[Any, Path]:
        assert reference == "digits@champion"
        return SimpleNamespace(name="digits", version=champion[0], run_id=f"r{champion[0]}"), files[champion[0] - 1]

    monkeypatch.setattr("audioml.registry.versions.fetch_checkpoint", fetch)
    monkeypatch.setattr("audioml.registry.tracking.tracking", lambda ctx: nullcontext())
    ctx = make_workspace(tmp_path / "own", init_from="digits@champion")
    plan_step(ctx, find_step("train"))
    key = train.fit_key(ctx)
    champion[0] = 2
    with pytest.raises(StepError, match=r"1\.ckpt can't be started from"):
        work_item(ctx, find_step("train"), train.FIT)
    assert train.fit_key(ctx) == key
    assert describe_source(ctx) == {"model": "digits/1", "run_id": "r1", "sha256": hash_file(files[0])}
    look_up_source(ctx)
    assert train.fit_key(ctx) != key


def test_a_damaged_shard_is_named_before_anything_is_learned(tmp_path: Path, runs: Runs) -> None:
    ctx = make_workspace(tmp_path)
    path = ctx.path("features/a.arrow")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"a\.arrow has the checksum"):
        run_step(ctx, find_step("train"))
    assert runs.opened == []
