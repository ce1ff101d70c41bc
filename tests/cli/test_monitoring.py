"""What `audioml monitor` and `audioml feedback` print, with answers in the place of the registry."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from audioml.cli import app
from audioml.errors import ParamsError
from audioml.monitoring import run

COLUMN = {"drifted": True, "effect": 0.8, "needed": 0.1, "reference": "-20 dBFS", "now": "-40 dBFS", "skipped": ""}
SKIPPED = {"drifted": False, "effect": None, "reference": "", "now": "", "skipped": "none of the recordings has it"}
FOUND = {
    "model": "digits",
    "version": 3,
    "days": ["2026-11-20", "2026-11-21"],
    "recordings": 1500,
    "left_out": "Left out: recordings that other versions answered (2).",
    "alarm": True,
    "summary": "Loudness drifted: -20 dBFS to -40 dBFS.",
    "columns": {"rms_dbfs": COLUMN, "noise_dbfs": SKIPPED},
    "retest": {
        "metric": "accuracy",
        "n": 60,
        "registered": 0.9,
        "found": {"value": 0.91, "low": 0.85, "high": 0.95},
        "skipped": "",
    },
    "report": "reports/monitoring/2026-11-21/index.html",
}


@pytest.fixture
def asked(tmp_path: Path, minimal_params: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked for, in a workspace at `tmp_path`."""
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(minimal_params))
    calls: list[Any] = []

    def monitor(ctx: Any, *arguments: Any) -> dict[str, Any]:
        calls.append(arguments)
        return FOUND

    monkeypatch.setattr(run, "monitor", monitor)
    return calls


def audioml(workspace: Path, *arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "160"}).invoke(app, [*arguments, "--workspace", str(workspace)])


def test_monitor_prints_what_drifted(tmp_path: Path, asked: list[Any]) -> None:
    done = audioml(tmp_path, "monitor", "--day", "2026-11-21", "--days", "2")
    assert done.exit_code == 0
    assert asked == [(datetime.date(2026, 11, 21), 2, None)]
    text = " ".join(done.output.split())
    assert "digits version 3, 2026-11-20 to 2026-11-21: 1,500 recordings" in text
    assert "rms_dbfs DRIFTED -20 dBFS -40 dBFS 0.800 (needed 0.100)" in text
    assert "noise_dbfs not tested none of the recordings has it" in text
    assert "accuracy on 60 labelled recordings: 0.91 (0.85 to 0.95); registered: 0.9" in text
    assert "Left out: recordings that other versions answered (2)." in text
    assert "Report: reports/monitoring/2026-11-21/index.html" in text


def test_an_alarm_fails_the_command_only_if_so_wished(tmp_path: Path, asked: list[Any]) -> None:
    done = audioml(tmp_path, "monitor", "--fail", "--json", "--input", str(tmp_path))
    assert done.exit_code == 1
    assert json.loads(done.output) == FOUND
    assert asked == [(None, 1, tmp_path)]
    assert audioml(tmp_path, "monitor", "--json").exit_code == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--day", "yesterday"], "--day is 'yesterday', but must be a date such as 2026-11-22"),
        (["--input", "no-such-folder"], "--input is no-such-folder, which is no folder"),
        (["--input", ".", "--days", "2"], "--days goes with the server's log"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, asked: list[Any], options: list[str], message: str) -> None:
    done = audioml(tmp_path, "monitor", *options)
    assert isinstance(done.exception, ParamsError)
    assert message in str(done.exception)
    assert asked == []
