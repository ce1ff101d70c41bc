"""`features.length: whole` from recordings to predictions: clips of many lengths, each one window."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from audioml.inference.predictor import Predictor
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
from audioml.pipeline.steps.split import VALIDATION
from audioml.store.features import open_features
from audioml.store.files import read_json, write_json
from audioml.training.tracker import MemoryTracker

from ..conftest import write_tones


class Run(MemoryTracker):
    run_id = "0" * 32


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what MLflow is told to ourselves."""

    @contextmanager
    def training_run(ctx: Context, run_id: str | None = None) -> Iterator[Run]:
        yield Run()

    def save(folder: Path, *, onnx: Path, description: dict[str, Any], example_audio: bytes, **_: Any) -> None:
        (folder / "artifacts").mkdir(parents=True)
        shutil.copyfile(onnx, folder / "artifacts" / "model.onnx")
        write_json(folder / "artifacts" / "model.json", description)

    monkeypatch.setattr("audioml.registry.runs.training_run", training_run)
    monkeypatch.setattr("audioml.registry.runs.log_evaluation", lambda *_: None)
    monkeypatch.setattr("audioml.registry.package.save_package", save)


def test_clips_of_many_lengths_are_learned_judged_and_predicted(tmp_path: Path, no_server: None) -> None:
    source = write_tones(tmp_path / "tones", clips_per_label=12)
    params = {
        "name": "whole",
        "data": {"layout": "folder", "source": str(source)},
        "features": {"name": "logmel", "sample_rate": 8000, "n_fft": 256, "win_length": 256, "length": "whole"},
        "task": {"name": "classification"},
        "model": {"name": "rescnn"},
        "training": {"max_epochs": 8, "batch_size": 4, "accelerator": "cpu"},
    }
    workspace = tmp_path / "ws"
    workspace.mkdir()
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    ctx = Context.load(workspace)
    write_json(ctx.path(VALIDATION), {"success": True})
    for step in ("ingest", "split", "featurize", "train"):
        run_step(ctx, find_step(step), jobs=1)
    features = open_features(ctx.path("features"), verify=True)
    assert features.shape == (40, None)
    assert len(np.unique(features.frames)) > 10
    # This compares the outputs from stored features with those from audio bytes, too.
    summary = run_step(ctx, find_step("evaluate"), jobs=1)
    assert summary["accuracy"] >= 0.8
    assert read_json(ctx.path("models/run.json"))["onnx_max_error"] < 1e-4
    clips = sorted((source / "high").iterdir())
    answers = Predictor.load(ctx.path("models/package/artifacts")).predict([clip.read_bytes() for clip in clips])
    assert [answer["label"] for answer in answers].count("high") >= 10
