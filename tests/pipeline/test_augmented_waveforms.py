"""`features.keep_audio` and augmentations of waveforms, from recordings to a model."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from audioml.pipeline.check import check_store
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
from audioml.pipeline.steps.split import VALIDATION
from audioml.store.files import hash_file, read_json, write_json
from audioml.training.tracker import MemoryTracker

from ..conftest import write_tones


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


class Run(MemoryTracker):
    run_id = "0" * 32
    kill_at_epoch: int | None = None

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        if step == self.kill_at_epoch:
            raise Killed
        super().log_metrics(metrics, step)


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Stands for the MLflow server."""
    tracker = Run()

    @contextmanager
    def training_run(ctx: Context, run_id: str | None = None) -> Iterator[Run]:
        yield tracker

    def save(folder: Path, *, onnx: Path, description: dict[str, Any], example_audio: bytes, **_: Any) -> None:
        write_json(folder / "model.json", description)

    monkeypatch.setattr("audioml.registry.runs.training_run", training_run)
    monkeypatch.setattr("audioml.registry.package.save_package", save)
    return tracker


def make_features(workspace: Path, source: Path) -> Context:
    params = {
        "name": "augmented",
        "data": {"layout": "folder", "source": str(source)},
        "features": {"name": "logmel", "sample_rate": 8000, "n_fft": 256, "win_length": 256, "keep_audio": True},
        "task": {"name": "classification"},
        "model": {"name": "rescnn", "channels": [8, 8], "width": 8},
        "augment": [
            {"name": "mixup"},
            {"name": "pitch"},
            {"name": "room", "rooms": 4, "max_rt60_s": 0.2},
            {"name": "noise"},
        ],
        "training": {"max_epochs": 2, "batch_size": 8, "accelerator": "cpu"},
    }
    workspace.mkdir()
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    ctx = Context.load(workspace)
    write_json(ctx.path(VALIDATION), {"success": True})
    for step in ("ingest", "split", "featurize"):
        run_step(ctx, find_step(step), jobs=1)
    return ctx


def test_a_model_is_trained_and_taken_up_again_and_described_as_any_other(tmp_path: Path, tracker: Run) -> None:
    ctx = make_features(tmp_path / "undisturbed", write_tones(tmp_path / "tones", clips_per_label=8))
    assert check_store(ctx, deep=True)[1] == []
    shutil.copytree(ctx.workspace, tmp_path / "killed", symlinks=True)
    killed = Context.load(tmp_path / "killed")
    run_step(ctx, find_step("train"), jobs=1)
    tracker.kill_at_epoch = 2
    with pytest.raises(Killed):
        run_step(killed, find_step("train"), jobs=1)
    tracker.kill_at_epoch = None
    run_step(killed, find_step("train"), jobs=1)
    assert hash_file(ctx.path("models/model.onnx")) == hash_file(killed.path("models/model.onnx"))
    description = read_json(ctx.path("models/package/model.json"))
    assert description["features"]["params"]["sample_rate"] == 8000
    assert "keep_audio" not in description["features"]["params"]
