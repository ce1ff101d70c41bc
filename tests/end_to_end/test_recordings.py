"""The main job on real recordings, by `dvc repro`, with the params that `audioml init` picks but fewer epochs.

Whole trainings are in docs/benchmarks.md.
"""

import pytest

from .conftest import FSDD, change_params, keep_server, read_metrics, run_command

pytestmark = pytest.mark.slow


def test_digits_are_recognised(fsdd_dir, tmp_path):
    run_command("audioml", "init", "digits", "--data", str(fsdd_dir), *FSDD, cwd=tmp_path)
    change_params(tmp_path / "digits", "training", max_epochs=15)
    with keep_server(tmp_path / "digits"):
        run_command("dvc", "repro", cwd=tmp_path / "digits")
    test = read_metrics(tmp_path / "digits")["test"]
    assert test["n"] == 300
    assert test["accuracy"] >= 0.99


def test_sounds_by_folder_with_folds_and_sources(esc10_dir, tmp_path):
    pattern = r"(?P<fold>\d)-(?P<source>\d+)-[A-Z]"
    options = ["--layout", "folder", "--pattern", pattern, "--group", "source", "--test", "fold == 5"]
    run_command("audioml", "init", "sounds", "--data", str(esc10_dir), *options, cwd=tmp_path)
    # Ten epochs show that everything runs and learns.
    change_params(tmp_path / "sounds", "training", max_epochs=10)
    with keep_server(tmp_path / "sounds"):
        run_command("dvc", "repro", cwd=tmp_path / "sounds")
    test = read_metrics(tmp_path / "sounds")["test"]
    assert test["n"] == 80
    assert test["accuracy"] > 0.3
