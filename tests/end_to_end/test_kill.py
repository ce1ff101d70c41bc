"""kill -9 in the middle; the next run finishes the job and makes what an undisturbed run makes.

`AUDIOML_KILLS=30 pytest tests/end_to_end/test_kill.py -k random` kills at more random moments than by default.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from .conftest import ENVIRONMENT, FSDD, change_params, run_command, shrink

pytestmark = pytest.mark.slow
KILLS = int(os.environ.get("AUDIOML_KILLS", "3"))
BOTH_STEPS = ["sh", "-c", "audioml run ingest --jobs 2 && audioml run featurize --jobs 2"]


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
    run_command("audioml", "init", str(undisturbed), "--data", str(fsdd_dir), *FSDD, cwd=tmp_path)
    run_command("dvc", "repro", "validate", cwd=undisturbed)
    shutil.copytree(undisturbed, killed, symlinks=True)
    run_command("dvc", "repro", "featurize", cwd=undisturbed)

    # A shard is finished once its record stands beside it: a kill between the two makes it again.
    records = killed / ".audioml" / "featurize"
    kill_when(["audioml", "run", "featurize", "--jobs", "1"], killed, lambda: any(records.glob("*.json")))
    shards = [killed / "features" / f"{record.stem}.arrow" for record in records.glob("*.json")]
    finished = {path: path.stat().st_ino for path in shards}
    assert 0 < len(finished) < len(list((undisturbed / "features").glob("*.arrow")))
    run_command("dvc", "repro", "featurize", cwd=killed)
    assert {path: path.stat().st_ino for path in finished} == finished
    assert shard_bytes(killed) == shard_bytes(undisturbed)


def trained(workspace: Path) -> tuple[list[dict[str, float]], bytes]:
    """Return what training measured in each epoch, seconds aside, and the network it made."""
    history = json.loads((workspace / "models" / "run.json").read_text())["history"]
    measured = [{key: value for key, value in epoch.items() if key != "seconds"} for epoch in history]
    return measured, (workspace / "models" / "model.onnx").read_bytes()


def test_train_goes_on_from_its_last_checkpoint(workspace, tmp_path):
    shrink(workspace, max_epochs=6)
    run_command("dvc", "repro", "train", cwd=workspace)
    undisturbed = trained(workspace)

    for path in (workspace / ".audioml" / "training").rglob("*.ckpt"):
        path.unlink()
    shrink(workspace, max_epochs=6, patience=14)
    training = workspace / ".audioml" / "training"
    kill_when(["audioml", "run", "train"], workspace, lambda: any(training.rglob("last.ckpt")))
    done = run_command("dvc", "repro", "train", cwd=workspace)
    assert "resumes after epoch" in done.stdout + done.stderr
    assert trained(workspace) == undisturbed


def all_files(workspace: Path) -> dict[str, bytes]:
    """Everything that the steps left: outputs whole, and the names of what they keep in the state folder."""
    outputs = [path for folder in ("data", "features") for path in (workspace / folder).rglob("*") if path.is_file()]
    state = [path for step in ("ingest", "featurize") for path in (workspace / ".audioml" / step).rglob("*")]
    return {str(path.relative_to(workspace)): path.read_bytes() for path in outputs} | {
        str(path.relative_to(workspace)): b"" for path in state
    }


def temporary_files(workspace: Path) -> list[Path]:
    """What a write that did not end would leave, in outputs, plans and all other state."""
    return [path for folder in ("data", "features", ".audioml") for path in (workspace / folder).rglob("*.tmp")]


def count_outputs(workspace: Path) -> int:
    """Count what two steps have written so far; files may come and go meanwhile."""
    folders = ("data", "features", ".audioml/ingest", ".audioml/featurize")
    return sum(len(names) for folder in folders for _, _, names in os.walk(workspace / folder))


def find_workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        children = psutil.Process(process.pid).children(recursive=True)
        return [child for child in children if "forkserver" in " ".join(child.cmdline())]
    except psutil.NoSuchProcess:
        return []


def kill_after(process: subprocess.Popen[bytes], workspace: Path, enough: int, workers_only: bool) -> bool:
    """With enough outputs there, kill -9 the whole group, or one worker; tell whether there was one to kill."""
    while process.poll() is None:
        if count_outputs(workspace) < enough or (workers_only and not find_workers(process)):
            time.sleep(0.005)
        elif workers_only:
            for worker in find_workers(process)[-1:]:
                worker.kill()
                return True
        else:
            os.killpg(process.pid, signal.SIGKILL)
            return True
    return False


def test_killed_at_random_moments_it_ends_as_an_undisturbed_run(fsdd_dir, tmp_path):
    template = tmp_path / "template"
    run_command("audioml", "init", str(template), "--data", str(fsdd_dir), *FSDD, cwd=tmp_path)
    change_params(template, "ingest", shard_s=60.0, shard_mb=1.0)

    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(template, undisturbed, symlinks=True)
    run_command(*BOTH_STEPS, cwd=undisturbed)
    expected = all_files(undisturbed)
    assert sum(name.endswith(".arrow") for name in expected) >= 20

    chance = random.Random(0)
    hits = attempt = 0
    while hits < KILLS:
        assert attempt < 3 * KILLS, "most runs had ended before they could be killed"
        killed = tmp_path / f"killed{attempt}"
        shutil.copytree(template, killed, symlinks=True)
        process = subprocess.Popen(
            BOTH_STEPS, cwd=killed, env=ENVIRONMENT, start_new_session=True, stdout=subprocess.DEVNULL
        )
        workers_only = attempt % 2 == 1
        enough = chance.randrange(1, int(0.9 * count_outputs(undisturbed)))
        hits += kill_after(process, killed, enough, workers_only)
        status = process.wait()
        assert not workers_only or status == 0, "a run survives the death of a worker"
        run_command(*BOTH_STEPS, cwd=killed)
        assert all_files(killed) == expected
        assert temporary_files(killed) == []
        shutil.rmtree(killed)
        attempt += 1
