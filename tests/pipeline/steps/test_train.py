from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from audioml.errors import StepError, StoreError
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import collect_step, run_step, work_item
from audioml.pipeline.steps import train
from audioml.store.files import hash_file, read_json, write_json
from audioml.store.manifest import SPLITS
from audioml.training.tracker import MemoryTracker

from ._train_space import SHAPE, make_workspace


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


class Runs(MemoryTracker):
    """Stands for the MLflow server: knows which runs were opened, and kills at an epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.run_id = ""
        self.kill_at_epoch: int | None = None

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

    def save(folder: Path, *, onnx: Path, description: dict[str, Any], example_audio: bytes) -> None:
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
    summary = run_step(ctx, find_step("train"))
    run = read_json(ctx.path("models/run.json"))
    assert run["run_id"] == summary["run_id"] == "run0"
    assert [row["epoch"] for row in run["history"]] == [1, 2, 3, 4]
    assert run["metrics"]["val_loss"] == min(row["val_loss"] for row in run["history"])
    assert run["onnx_max_error"] < 1e-4
    package = read_json(ctx.path("models/package/package.json"))
    assert package["onnx"] == hash_file(ctx.path("models/model.onnx"))
    assert package["targets"] == {"labels": ["high", "low"]}
    assert package["features"] == {"name": "logmel", "params": {"n_mels": SHAPE[0]}}
    assert package["clean"] == [{"name": "remove_dc", "params": {}}]
    assert package["audio"] == "audio 00"
    assert runs.metrics[run["best_epoch"]]["best_val_loss"] == run["metrics"]["val_loss"]


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


def test_a_damaged_shard_is_named_before_anything_is_learned(tmp_path: Path, runs: Runs) -> None:
    ctx = make_workspace(tmp_path)
    path = ctx.path("features/a.arrow")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"a\.arrow has the checksum"):
        run_step(ctx, find_step("train"))
    assert runs.opened == []
