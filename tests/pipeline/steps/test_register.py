from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from audioml.errors import StepError
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import collect_step, run_step
from audioml.registry.package import package_digest, save_package
from audioml.registry.server import find_server
from audioml.registry.tracking import tracking
from audioml.registry.training_sets import read_training_set
from audioml.registry.versions import resolve
from audioml.store.files import read_json, write_json
from audioml.store.training_clips import TRAINING_CLIPS, write_training_clips


@pytest.fixture
def ctx(tmp_path: Path, minimal_params: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Context:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(minimal_params | {"registry": {"gates": []}}))
    return Context.load(tmp_path)


def test_missing_inputs_name_the_step(ctx: Context) -> None:
    with pytest.raises(StepError, match="audioml run train"):
        run_step(ctx, find_step("register"))
    with pytest.raises(StepError, match="audioml run register"):
        collect_step(ctx, find_step("register"))


def write_outputs(ctx: Context, tone_model: tuple[Path, dict[str, Any]], audio: bytes) -> Path:
    """Write what `train` and `evaluate` would; return the package."""
    package = ctx.path("models/package")
    save_package(package, onnx=tone_model[0], description=tone_model[1], example_audio=audio)
    write_json(ctx.path("models/run.json"), {"run_id": "a" * 32})
    write_json(ctx.path("reports/metrics.json"), {"test": {"accuracy": 0.75}})
    row = {"clip_id": "c" * 64, "path": "a.wav", "start_s": 0.0, "group": None, "split": "train", "features": "f"}
    write_training_clips(ctx.path(TRAINING_CLIPS), pd.DataFrame([row | {"packaged": True}]))
    return package


@pytest.mark.slow
def test_the_first_version_is_no_champion_if_a_gate_speaks_against_it(
    ctx: Context, tone_model: tuple[Path, dict[str, Any]], tone_wav: Callable[[float], bytes]
) -> None:
    write_outputs(ctx, tone_model, tone_wav(200.0))
    gates = {"registry": {"gates": [{"name": "metric", "metric": "test_accuracy", "min": 0.8}]}}
    raw = yaml.safe_load(ctx.path("params.yaml").read_text())
    ctx.path("params.yaml").write_text(yaml.safe_dump(raw | gates))
    ctx = Context.load(ctx.workspace)
    summary = run_step(ctx, find_step("register"))
    assert summary["aliases"] == ["challenger"]
    assert "Gate metric: test_accuracy is 0.75; at least 0.8 is asked for." in summary["not_champion"]
    assert "not_champion" not in read_json(ctx.path("models/registered.json"))


@pytest.mark.slow
def test_registers_once_and_leaves_no_server(
    ctx: Context, tone_model: tuple[Path, dict[str, Any]], tone_wav: Callable[[float], bytes]
) -> None:
    package = write_outputs(ctx, tone_model, tone_wav(200.0))
    first = run_step(ctx, find_step("register"))
    assert first == {"name": "digits", "version": 1, "aliases": ["challenger", "champion"]}
    registered = read_json(ctx.path("models/registered.json"))
    assert first.items() <= registered.items()
    assert registered["metrics"] == {"test_accuracy": 0.75}
    assert registered["package_digest"] == package_digest(package)
    content = ctx.path("models/registered.json").read_bytes()
    run_step(ctx, find_step("register"))
    assert ctx.path("models/registered.json").read_bytes() == content
    with tracking(ctx):
        clips = read_training_set(ctx, resolve(ctx))
    assert clips is not None
    assert clips["path"].tolist() == ["a.wav"]
    assert find_server(ctx.state) is None
