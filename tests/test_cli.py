import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from audioml import __version__
from audioml.cli import app

COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands]


def run_cli(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "audioml", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"audioml {command}" in result.output


def test_version():
    assert CliRunner().invoke(app, ["--version"]).output.strip() == __version__


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plan",), "audioml init"),
        (("run", "featurise"), "Did you mean 'featurize'"),
        (("run", "train", "--plan", "--collect"), "give one of them"),
        (("predict", "nothing.wav"), "audioml init"),
    ],
)
def test_an_error_is_one_message_without_a_traceback(tmp_path, arguments, message):
    done = run_cli(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("Error ")
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_parts_of_a_run_answer_in_json(tmp_path, tones):
    created = run_cli("init", "birds", "--data", str(tones), "--json", cwd=tmp_path)
    assert json.loads(created.stdout)["layout"] == "folder", created.stderr
    workspace = tmp_path / "birds"
    items = json.loads(run_cli("run", "ingest", "--plan", "--json", cwd=workspace).stdout)
    assert [set(item) for item in items] == [{"id", "label"}] * len(items)
    for item in items:
        assert run_cli("run", "ingest", "--item", item["id"], "--json", cwd=workspace).returncode == 0
    summary = json.loads(run_cli("run", "ingest", "--collect", "--json", cwd=workspace).stdout)
    assert summary["clips"] == 72
    decisions = json.loads(run_cli("plan", "validate", "--json", cwd=workspace).stdout)
    assert decisions == {"validate": {"run": True, "reasons": ["no run of it is recorded"]}}


def test_a_wrong_key_of_the_model_is_found_before_any_work(tmp_path, tones):
    run_cli("init", "birds", "--data", str(tones), cwd=tmp_path)
    params = tmp_path / "birds" / "params.yaml"
    params.write_text(params.read_text().replace("  width: 48", "  widht: 48"))
    done = run_cli("run", "ingest", cwd=tmp_path / "birds")
    assert done.returncode == 1
    assert "unknown key 'model.widht'. Did you mean 'width'?" in done.stderr
    assert not (tmp_path / "birds" / "data").exists()
