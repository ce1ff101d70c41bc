"""kill -9 in the middle; the next `dvc repro` finishes the job and makes what an undisturbed run makes."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import ENVIRONMENT, FSDD, read_metrics, run_command, shrink

pytestmark = pytest.mark.slow


def kill_when(command: list[str], cwd: Path, condition: Callable[[], bool]) -> None:
    """Start a command in a group of its own, and kill -9 the whole group as soon as the condition holds."""
    process = subprocess.Popen(
        command, cwd=cwd, env=ENVIRONMENT, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not condition():
        try:
            status = process.wait(timeout=0.01)
        except subprocess.TimeoutExpired:
            continue
        pytest.fail(f"{' '.join(command)} ended with {status} before it could be killed")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def shard_bytes(workspace: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((workspace / "features").iterdir())}


def test_featurize_repeats_only_what_was_not_finished(fsdd_dir, tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for workspace in (undisturbed, killed):
        run_command("audioml", "init", str(workspace), "--data", str(fsdd_dir), *FSDD, cwd=tmp_path)
        run_command("dvc", "repro", "split", cwd=workspace)
    run_command("dvc", "repro", "featurize", cwd=undisturbed)

    kill_when(
        ["audioml", "run", "featurize", "--jobs", "1"], killed, lambda: any((killed / "features").glob("*.arrow"))
    )
    finished = {path: path.stat().st_ino for path in (killed / "features").glob("*.arrow")}
    assert 0 < len(finished) < len(list((undisturbed / "features").glob("*.arrow")))
    run_command("dvc", "repro", "featurize", cwd=killed)
    assert {path: path.stat().st_ino for path in finished} == finished
    assert shard_bytes(killed) == shard_bytes(undisturbed)


def test_train_goes_on_from_its_last_checkpoint(workspace, tmp_path):
    shrink(workspace, max_epochs=6)
    run_command("dvc", "repro", "evaluate", cwd=workspace)
    undisturbed, onnx = read_metrics(workspace), (workspace / "models" / "model.onnx").read_bytes()

    for path in (workspace / ".audioml" / "training").rglob("*.ckpt"):
        path.unlink()
    shrink(workspace, max_epochs=6, patience=14)
    training = workspace / ".audioml" / "training"
    kill_when(["audioml", "run", "train"], workspace, lambda: any(training.rglob("last.ckpt")))
    done = run_command("dvc", "repro", "evaluate", cwd=workspace)
    assert "resumes after epoch" in done.stdout + done.stderr
    assert read_metrics(workspace) == undisturbed
    assert (workspace / "models" / "model.onnx").read_bytes() == onnx
