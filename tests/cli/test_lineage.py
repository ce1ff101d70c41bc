"""`audioml lineage` and `audioml forget`, as a user types them, on a workspace with DVC and a registry of its own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner, Result

from audioml.cli import app
from audioml.errors import ParamsError, StepError
from audioml.orchestration import lease
from audioml.orchestration.dvc import init_dvc, render_workspace
from audioml.orchestration.lease import Holder
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
from audioml.registry.package import save_package
from audioml.registry.runs import training_run
from audioml.registry.server import use_server
from audioml.registry.training_sets import keep_training_set
from audioml.registry.versions import register_package
from audioml.store.files import write_json
from audioml.store.manifest import MANIFEST, read_manifest
from audioml.store.training_clips import write_training_clips


@pytest.fixture
def workspace(
    tmp_path: Path, minimal_params: dict[str, Any], tone_model: Any, tone_wav: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """Six tones, ingested, and a model that was trained on them all."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for i in range(6):
        path = tmp_path / "recordings" / ("low", "high")[i % 2] / f"{i} [x].wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tone_wav(200 + 100 * i))
    root = tmp_path / "space"
    root.mkdir()
    subprocess.run(["git", "init", "--quiet", root], check=True)
    init_dvc(root)
    data = {"layout": "folder", "source": str(tmp_path / "recordings")}
    (root / "params.yaml").write_text(yaml.safe_dump(minimal_params | {"data": data}))
    ctx = Context.load(root)
    (root / "dvc.yaml").write_text(render_workspace(ctx))
    run_step(ctx, find_step("ingest"), jobs=1)
    manifest = read_manifest(ctx.path(MANIFEST))
    clips = manifest[["clip_id", "path", "start_s"]].assign(
        group=None, split="train", features="f.arrow", packaged=True
    )
    write_training_clips(tmp_path / "table.parquet", pd.DataFrame(clips))
    save_package(tmp_path / "package", onnx=tone_model[0], description=tone_model[1], example_audio=tone_wav(200.0))
    with use_server(ctx.state):
        with training_run(ctx) as tracker:
            version = register_package(ctx, tmp_path / "package", tracker.run_id, {})
            keep_training_set(version, tmp_path / "table.parquet")
        yield root


def run(workspace: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--workspace", str(workspace)])


def test_lineage_and_forget(workspace: Path, tmp_path: Path) -> None:
    told = run(workspace, "lineage", "digits/1", "--most", "2", "--html", str(tmp_path / "l.html")).output
    assert "model digits/1" in told
    assert "high/1 [x].wav" in told
    assert "and 4 more" in told
    assert "digits/1" in (tmp_path / "l.html").read_text()
    (recordings,) = _below(json.loads(run(workspace, "lineage", "digits/1", "--json").output), "recordings")
    assert len(recordings["children"]) == 6

    unsaid = run(workspace, "forget", "low/0 [x].wav")
    assert isinstance(unsaid.exception, ParamsError)
    (workspace / "dvc.yaml").write_text("edited")
    assert isinstance(run(workspace, "forget", "low/0 [x].wav", "--by", "a", "--reason", "b").exception, StepError)
    assert not (workspace / "withdrawn.json").exists()
    run(workspace, "render")
    write_json(workspace / ".dvc/tmp/rwlock", {"write": {"models": {"pid": os.getpid(), "cmd": "dvc repro"}}})
    busy = run(workspace, "forget", "low/0 [x].wav", "--by", "a", "--reason", "b").exception
    assert str(os.getpid()) in str(busy)
    (workspace / ".dvc/tmp/rwlock").unlink()
    holder = Holder("digits", "run 1")
    lease.take(workspace, holder, lambda _: False)
    busy = run(workspace, "forget", "low/0 [x].wav", "--by", "a", "--reason", "b").exception
    assert "digits/run 1" in str(busy)
    lease.give_back(workspace, holder)
    assert not (workspace / "withdrawn.json").exists()

    done = run(workspace, "forget", "low/0 [x].wav", "--by", "ann", "--reason", "consent [1]", "--jobs", "1")
    text = " ".join(done.output.split())
    assert done.exit_code == 0
    for part in (
        "Withdrawn: low/0 [x].wav",
        "The data set has 5 clips",
        "digits/1",
        "packages in MLflow",
        "mlflow gc",
        "dvc gc --workspace",
        "dvc repro",
        "git add withdrawn.json dvc.yaml dvc.lock",
    ):
        assert part in text
    assert "withdrawn.json" in (workspace / "dvc.yaml").read_text()
    assert "withdrawn" in run(workspace, "models", "list").output
    (listed,) = json.loads(run(workspace, "models", "list", "--json").output)
    assert (listed["withdrawn"]["train"], listed["withdrawn"]["by"]) == (1, "ann")
    assert "consent [1]" in run(workspace, "lineage", "low/0 [x].wav").output
    again = json.loads(run(workspace, "forget", "--group", "label=low", "--by", "a", "--reason", "b", "--json").output)
    assert (len(again["withdrawn"]), again["already_withdrawn"]) == (2, 0)
    assert [m["recordings"]["train"] for m in again["models"]] == [2]


def _below(node: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    own = [node] if node["kind"] == kind else []
    return own + [found for child in node.get("children", []) for found in _below(child, kind)]
