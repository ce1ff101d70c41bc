"""A corpus nobody has seen before, workspaces made from it, and the commands as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import yaml

from audioml.registry.server import Server, use_server

BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1", "COLUMNS": "200"}
ENVIRONMENT.pop("MLFLOW_TRACKING_URI", None)
FSDD = [
    *("--layout", "filename", "--pattern", r"(?P<label>\d)_(?P<speaker>\w+)_(?P<index>\d+)"),
    *("--test", "index < 5"),
]
"""Options of `audioml init` for the Free Spoken Digit Dataset and its official split."""


def run_command(
    *arguments: str, cwd: Path, ok: bool = True, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command; with `ok`, its failure fails the test with all that it printed."""
    given = {**ENVIRONMENT, **(environment or {})}
    done = subprocess.run([*arguments], cwd=cwd, env=given, capture_output=True, text=True)
    if ok and done.returncode != 0:
        pytest.fail(f"{' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def change_params(workspace: Path, section: str, **values: Any) -> None:
    """Change values of one section of params.yaml."""
    path = workspace / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params[section].update(values)
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def shrink(workspace: Path, **training: Any) -> None:
    """Make a workspace's training short, and its evaluation; that of test_recordings.py is whole."""
    change_params(workspace, "training", **{"max_epochs": 3, "batch_size": 16, **training})
    change_params(workspace, "evaluate", explained_clips=0, bootstrap_samples=200)


def keep_server(workspace: Path) -> AbstractContextManager[Server]:
    """Keep the workspace's MLflow server for the block; else each command starts one and stops it."""
    return use_server(workspace / ".audioml")


def read_metrics(workspace: Path) -> dict[str, Any]:
    return json.loads((workspace / "reports" / "metrics.json").read_text())


@pytest.fixture
def workspace(tones: Path, tmp_path: Path) -> Path:
    """A fresh workspace on the tones, made by the command."""
    run_command("audioml", "init", str(tmp_path / "tones"), "--data", str(tones), cwd=tmp_path)
    shrink(tmp_path / "tones")
    return tmp_path / "tones"
