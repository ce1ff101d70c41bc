"""A model without gradient descent does the main job by the same commands: steps, registry, prediction."""

import json

import pytest
import yaml

from .conftest import keep_server, read_metrics, run_command

pytestmark = pytest.mark.slow


def test_a_forest_is_trained_evaluated_registered_and_asked(workspace, tones):
    path = workspace / "params.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"model": {"name": "forest", "trees": 50}}))
    with keep_server(workspace):
        said = run_command("dvc", "repro", cwd=workspace)
    assert "forest is fitted at once" in said.stdout + said.stderr
    run = json.loads((workspace / "models" / "run.json").read_text())
    assert run["model"] == "forest"
    assert run["epochs"] == 1
    assert read_metrics(workspace)["test"]["accuracy"] > 0.8
    assert "up to date" in run_command("dvc", "status", cwd=workspace).stdout
    clips = sorted((tones / "high").glob("*.wav"))[:2]
    predicted = json.loads(run_command("audioml", "predict", *map(str, clips), "--json", cwd=workspace).stdout)
    assert [prediction["label"] for prediction in predicted] == ["high", "high"]
    assert all(1 / 3 < prediction["probability"] <= 1 for prediction in predicted)
