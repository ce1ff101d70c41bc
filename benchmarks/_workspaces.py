"""Workspaces on real recordings, made and run by the commands as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("AUDIOML_TEST_DATA", REPOSITORY.parent / "shared" / "data")).resolve()
FSDD = ("--data", str(DATA / "fsdd" / "recordings"), "--layout", "filename")
ESC10 = ("--data", str(DATA / "esc10"), "--layout", "folder")
SOURCES = ("--pattern", r"(?P<fold>\d)-(?P<source>\d+)-[A-Z]", "--group", "source")
"""Of ESC-10: its folds, and the recordings that clips were cut from."""
JOBS = {
    "digits": [*FSDD, "--pattern", r"(?P<label>\d)_(?P<speaker>\w+)_(?P<index>\d+)", "--test", "index < 5"],
    "sounds": [*ESC10, *SOURCES, "--test", "fold == 5"],
}
"""Options of `audioml init` by corpus."""
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}
ENVIRONMENT.pop("MLFLOW_TRACKING_URI", None)


def run_audioml(*arguments: str, cwd: Path) -> None:
    """Run a command; its output is shown if it fails."""
    done = subprocess.run(["audioml", *arguments], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"audioml {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")


def change_params(workspace: Path, changes: Mapping[str, Any]) -> None:
    """Set keys of params.yaml by dotted path; a path without dots replaces a section."""
    path = workspace / "params.yaml"
    params = yaml.safe_load(path.read_text())
    for dotted, value in changes.items():
        *sections, key = dotted.split(".")
        section = params
        for name in sections:
            section = section[name]
        section[key] = value
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def read_metrics(workspace: Path) -> dict[str, Any]:
    """Return what the evaluation has measured."""
    metrics: dict[str, Any] = json.loads((workspace / "reports" / "metrics.json").read_text())
    return metrics
