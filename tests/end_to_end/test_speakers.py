"""Enrolled speakers on models that are trained here: recognised, refused by the next champion, rebuilt, forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from audioml.cli import app
from audioml.errors import RegistryError
from audioml.pipeline.context import Context
from audioml.pipeline.graph import STEPS
from audioml.pipeline.runner import run_step

from .conftest import change_params, keep_server

pytestmark = pytest.mark.slow


@pytest.fixture
def voices(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A workspace that tells the tones apart as if they were speakers; version 1 is its champion."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    params |= {"task": {"name": "speaker", "embedding": 16}, "augment": []}
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    change_params(workspace, "training", max_epochs=12)
    with keep_server(workspace):
        run_steps(workspace)
        yield workspace


def run_steps(workspace: Path) -> None:
    """Run all steps in this process: what the commands add is tested elsewhere."""
    ctx = Context.load(workspace)
    for step in STEPS:
        run_step(ctx, step, jobs=1)


def audioml(workspace: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, [*arguments, "--workspace", str(workspace)])


def ask(workspace: Path, *arguments: str) -> Any:
    return json.loads(audioml(workspace, "speakers", *arguments, "--json").output)


def test_speakers_from_recordings_to_a_second_champion(voices: Path, tones: Path) -> None:
    files = {name: [str(tones / name / f"clip {i:02d}.wav") for i in (0, 4, 8, 12)] for name in ("low", "high")}
    for name, (*enrolled, _) in files.items():
        assert ask(voices, "enrol", name, *enrolled)["recordings"] == 3
    last = [own[-1] for own in files.values()]
    assert [answer["speaker"] for answer in ask(voices, "identify", *last)] == ["low", "high"]
    verified = ask(voices, "verify", "low", *last)
    assert [answer["accepted"] for answer in verified] == [True, False]
    assert verified[0]["similarity"] > verified[0]["threshold"] > verified[1]["similarity"]

    params = yaml.safe_load((voices / "params.yaml").read_text())
    (voices / "params.yaml").write_text(yaml.safe_dump(params | {"seed": 1}))
    run_steps(voices)
    assert [answer["speaker"] for answer in ask(voices, "identify", *last)] == ["low", "high"]
    promoted = audioml(voices, "models", "promote", "2", "--by", "ann", "--reason", "a test", "--force")
    assert promoted.exit_code == 0
    refused = audioml(voices, "speakers", "identify", *last).exception
    assert isinstance(refused, RegistryError)
    for said in ("tones version 1", "tones version 2", "audioml speakers rebuild"):
        assert said in str(refused)

    assert ask(voices, "rebuild")["model"]["version"] == 2
    assert [answer["speaker"] for answer in ask(voices, "identify", *last)] == ["low", "high"]
    assert ask(voices, "forget", "low")["recordings"] == 3
    assert ask(voices, "list")["speakers"] == [{"speaker": "high", "recordings": 3}]
    assert [answer["nearest"] for answer in ask(voices, "identify", *last)] == ["high", "high"]
