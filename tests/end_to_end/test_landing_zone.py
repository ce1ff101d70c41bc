"""A landing zone of days under the real Airflow: a backfill by command, a backfill again, a file that lands."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from audioml.errors import ServiceError
from audioml.orchestration.airflow_client import AirflowClient
from audioml.store.manifest import read_manifest

from .conftest import change_params, run_command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
DAG = "calls.ingest"
LIMIT_S = 600.0


@pytest.fixture
def workspace(tmp_path, tone_wav):
    """Calls of two days, not watched yet."""
    for number, day in enumerate(("2026-01-02", "2026-01-04")):
        for label, base_hz in (("low", 200), ("high", 2000)):
            folder = tmp_path / "landing" / day / label
            folder.mkdir(parents=True)
            for index in range(3):
                (folder / f"{index}.wav").write_bytes(tone_wav(base_hz + 30 * number + 10 * index))
    options = ("--data", str(tmp_path / "landing"), "--partition", "%Y-%m-%d")
    run_command("audioml", "init", "calls", *options, cwd=tmp_path)
    workspace = tmp_path / "calls"
    change_params(workspace, "airflow", cron="0 2 * * *")
    change_params(workspace, "validate", min_clips_per_label=1)
    yield workspace
    run_command("audioml", "down", cwd=workspace)


def hash_outputs(workspace: Path) -> dict[str, str]:
    files = sorted(path for path in (workspace / "data").rglob("*") if path.is_file())
    return {str(path.relative_to(workspace)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def days(workspace: Path) -> set[str]:
    return set(read_manifest(workspace / "data/manifest.parquet")["partition"])


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < deadline, f"not in {LIMIT_S:.0f} s: {what}"
        time.sleep(0.5)


def states(client: AirflowClient, run_type: str) -> dict[str, str]:
    """The states of the runs of a type, by the day in which their data interval starts."""
    runs = [run for run in client.runs(DAG) if run["run_type"] == run_type]
    return {str(run["data_interval_start"])[:10]: run["state"] for run in runs}


def tries(client: AirflowClient, run_id: str) -> int:
    """How often a run that has ended well was run; 0 for one that has not."""
    (end,) = (task for task in client.task_instances(DAG, run_id) if task.task_id == "end")
    return end.try_number if client.run_state(DAG, run_id) == "success" else 0


def can_reprocess(client: AirflowClient, day: str) -> bool:
    """Ask for a day again as Airflow's pages do; False while Airflow, or its SQLite, is busy with the last backfill."""
    try:
        client.backfill(DAG, f"{day}T00:00:00Z", f"{day}T23:59:00Z", reprocess="completed")
    except ServiceError as error:
        # SQLite refuses at once to write after a read that another process has outdated; Airflow calls that a 500.
        outdated = "answered 500" in str(error) and "Database error" in str(error)
        if not outdated and not any(f"answered {status}" in str(error) for status in (409, 503)):
            raise
        return False
    return True


def test_days_are_filled_in_and_what_lands_is_noticed(workspace, tone_wav):
    stack = json.loads(run_command("audioml", "up", "--json", cwd=workspace).stdout)
    with AirflowClient(stack["services"]["airflow-api-server"]["url"], **stack["login"]) as client:
        client.wait_for_dag(DAG)
        client.pause("calls.features")

        asked = ["2026-01-02", "2026-01-03"]
        dates = ("--from-date", asked[0], "--to-date", f"{asked[-1]}T23:59")
        run_command("audioml", "airflow", "backfill", "create", "--dag-id", DAG, *dates, cwd=workspace)
        wait_for(lambda: states(client, "backfill") == dict.fromkeys(asked, "success"), "two runs")
        # The second has no folder, the third was not asked for.
        assert days(workspace) == {"2026-01-02"}

        before = hash_outputs(workspace)
        (again,) = (run["dag_run_id"] for run in client.runs(DAG) if str(run["data_interval_start"])[:10] == asked[0])
        first = tries(client, again)
        wait_for(lambda: can_reprocess(client, asked[0]), "a backfill by the API")
        wait_for(lambda: tries(client, again) > first, "the first day again")
        assert hash_outputs(workspace) == before

        (workspace.parent / "landing/2026-01-02/low/late.wav").write_bytes(tone_wav(500))
        change_params(workspace, "airflow", watch_s=1.0)
        wait_for(lambda: "success" in states(client, "asset_triggered").values(), "a run by the watcher")
        assert days(workspace) == {"2026-01-02", "2026-01-04"}
        assert "2026-01-02/low/late.wav" in set(read_manifest(workspace / "data/manifest.parquet")["path"])
