"""A corpus nobody has seen before, workspaces made from it, and the commands as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

BIN = Path(sys.executable).parent
ENVIRONMENT = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1", "COLUMNS": "200"}
ENVIRONMENT.pop("MLFLOW_TRACKING_URI", None)
FORMATS = (("wav", 8000, 1), ("flac", 16000, 1), ("ogg", 22050, 2), ("mp3", 44100, 1))


def run_command(*arguments: str, cwd: Path, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command; with `ok`, its failure fails the test with all that it printed."""
    done = subprocess.run([*arguments], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    if ok and done.returncode != 0:
        pytest.fail(f"{' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def write_tones(folder: Path, clips_per_label: int = 24, seed: int = 0) -> Path:
    """Write three classes of noisy tones (low, high, sweep), formats and rates mixed, with odd names."""
    generator = np.random.default_rng(seed)
    for label in ("low", "high", "schräg sweep"):
        (folder / label).mkdir(parents=True)
        for index in range(clips_per_label):
            extension, sample_rate, channels = FORMATS[index % len(FORMATS)]
            time_s = np.arange(int(sample_rate * generator.uniform(0.4, 0.7))) / sample_rate
            start_hz = {"low": 300.0, "high": 2200.0}.get(label, 500.0) * generator.uniform(0.9, 1.1)
            slope_hz_per_s = 4000.0 if label == "schräg sweep" else 0.0
            tone = 0.4 * np.sin(2 * np.pi * (start_hz * time_s + slope_hz_per_s * time_s**2 / 2))
            audio = tone[:, None] + generator.normal(0, 0.02, (len(tone), channels))
            soundfile.write(folder / label / f"clip {index:02d}.{extension}", audio, sample_rate)
    return folder


def shrink(workspace: Path, **training: Any) -> None:
    """Make a workspace's training short."""
    path = workspace / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["training"].update({"max_epochs": 3, "batch_size": 16, **training})
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def read_metrics(workspace: Path) -> dict[str, Any]:
    return json.loads((workspace / "reports" / "metrics.json").read_text())


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("corpus") / "töne und mehr")


@pytest.fixture
def workspace(tones: Path, tmp_path: Path) -> Path:
    """A fresh workspace on the tones, made by the command."""
    run_command("audioml", "init", str(tmp_path / "tones"), "--data", str(tones), cwd=tmp_path)
    shrink(tmp_path / "tones")
    return tmp_path / "tones"
