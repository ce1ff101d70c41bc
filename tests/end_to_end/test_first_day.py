"""What a newcomer does on the first day, mistakes included: each gets an answer, and nothing is lost."""

import json
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from .conftest import ENVIRONMENT, change_params, keep_server, read_metrics, run_command, shrink

pytestmark = pytest.mark.slow


def add_bad_files(folder: Path) -> dict[str, str]:
    """Put files that cannot be used into a corpus; return the reason that each must get, by name."""
    good = next((folder / "low").glob("*.wav"))
    (folder / "low" / "empty.wav").write_bytes(b"")
    (folder / "low" / "cut.wav").write_bytes(good.read_bytes()[:3000])
    (folder / "low" / "noise.wav").write_bytes(np.random.default_rng(0).bytes(5000))
    soundfile.write(folder / "low" / "no samples.wav", np.zeros(0), 8000)
    soundfile.write(folder / "low" / "nan.wav", np.full(4000, np.nan, np.float32), 8000, subtype="FLOAT")
    shutil.copy(good, folder / "low" / "zz twice.wav")
    (folder / "low" / "flac inside.wav").write_bytes(next((folder / "high").glob("*.flac")).read_bytes())
    (folder / "high" / "ünder the link.wav").symlink_to(good)
    return {
        "low/empty.wav": "empty",
        "low/cut.wav": "truncated",
        "low/noise.wav": "unreadable",
        "low/no samples.wav": "empty",
        "low/nan.wav": "not_finite",
    }


@contextmanager
def serving(workspace: Path, port: int):
    """Run the model server; the block starts when it has said that it answers."""
    command = ["audioml", "serve", "--port", str(port)]
    with subprocess.Popen(command, cwd=workspace, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "answers at" in process.stdout.readline()
            yield
        finally:
            process.terminate()


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_from_a_folder_with_bad_files_to_an_answer_over_http(tones, tmp_path, port):
    source = tmp_path / "töne"
    shutil.copytree(tones, source)
    reasons = add_bad_files(source)
    workspace = tmp_path / "first day"
    run_command("audioml", "init", str(workspace), "--data", str(source), "--name", "tones", cwd=tmp_path)
    shrink(workspace, max_epochs=12)
    with keep_server(workspace):
        run_command("dvc", "repro", cwd=workspace)

    quarantine = pd.read_parquet(workspace / "data" / "quarantine.parquet").set_index("path")["reason"].to_dict()
    assert {path: quarantine.get(path) for path in reasons} == reasons
    # One recording under two labels: none of its copies can be trusted.
    assert quarantine["high/ünder the link.wav"] == quarantine["low/zz twice.wav"] == "conflicting_labels"
    assert quarantine["low/flac inside.wav"] == "conflicting_labels"
    assert read_metrics(workspace)["test"]["accuracy"] > 0.5
    assert "up to date" in run_command("dvc", "status", cwd=workspace).stdout

    clip = sorted((source / "schräg sweep").glob("*.mp3"))[0]
    with keep_server(workspace):
        predicted = json.loads(run_command("audioml", "predict", str(clip), "--json", cwd=workspace).stdout)
        bad = run_command("audioml", "predict", str(clip), str(source / "low" / "noise.wav"), cwd=workspace, ok=False)
    assert bad.returncode == 1
    assert "unreadable" in bad.stdout

    with keep_server(workspace), serving(workspace, port):
        url = f"localhost:{port}/predict"
        answer = json.loads(run_command("curl", "-sS", "-F", f"file=@{clip}", url, cwd=tmp_path).stdout)
        raw = json.loads(run_command("curl", "-sS", "--data-binary", f"@{clip}", url, cwd=tmp_path).stdout)
        refused = json.loads(
            run_command("curl", "-sS", "-F", f"file=@{source}/low/noise.wav", url, cwd=tmp_path).stdout
        )
        taken = run_command("audioml", "serve", "--port", str(port), cwd=workspace, ok=False)
    assert answer["model"] == {"name": "tones", "version": 1}
    assert answer["label"] == raw["label"] == predicted[0]["label"]
    assert answer["probabilities"] == pytest.approx(predicted[0]["probabilities"], abs=1e-5)
    assert sum(answer["probabilities"].values()) == pytest.approx(1, abs=1e-4)
    assert "unreadable" in json.dumps(refused)
    assert taken.returncode == 75
    assert str(port) in taken.stderr


def test_a_corpus_that_cannot_be_learned_stops_early_and_says_why(tones, tmp_path):
    source, workspace = tmp_path / "source", tmp_path / "w"
    shutil.copytree(tones / "low", source / "low")
    run_command("audioml", "init", str(workspace), "--data", str(source), cwd=tmp_path)
    assert "at least 2" in fail_to_validate(workspace)
    # A second class, of fewer clips than a label needs.
    (source / "high").mkdir()
    for path in sorted((tones / "high").iterdir())[:2]:
        shutil.copy(path, source / "high")
    assert "at least 5 clips" in fail_to_validate(workspace)


def fail_to_validate(workspace):
    """Run until validate fails; return what was printed."""
    done = run_command("dvc", "repro", cwd=workspace, ok=False)
    printed = done.stdout + done.stderr
    assert done.returncode != 0
    assert "failed to reproduce 'validate'" in printed
    assert "Traceback" not in printed
    assert (workspace / "data" / "manifest.parquet").exists()
    assert not (workspace / "data" / "splits.parquet").exists()
    return printed


def test_new_recordings_cost_their_own_work_only(workspace, tones, tmp_path):
    source = tmp_path / "growing"
    shutil.copytree(tones, source)
    change_params(workspace, "data", source=str(source))
    run_command("dvc", "repro", "featurize", cwd=workspace)
    before = {path: path.stat().st_ino for path in (workspace / "features").glob("*.arrow")}
    packed = {path: path.stat().st_ino for path in (workspace / "data" / "audio").iterdir()}
    for label, start_hz in (("low", 310.0), ("high", 2300.0)):
        tone = 0.3 * np.sin(2 * np.pi * start_hz * np.arange(4000) / 8000)
        soundfile.write(source / label / "new.wav", tone, 8000)
    assert "input modified" in run_command("audioml", "plan", cwd=workspace).stdout
    run_command("dvc", "repro", "featurize", cwd=workspace)
    assert {path: path.stat().st_ino for path in before} == before
    assert {path: path.stat().st_ino for path in packed} == packed
    assert len(pd.read_parquet(workspace / "data" / "manifest.parquet")) == 74
