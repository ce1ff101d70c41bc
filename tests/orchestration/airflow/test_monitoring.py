"""The DAG that watches what is served, with answers in the place of audioml's command line."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from audioml.errors import ParamsError
from audioml.orchestration.airflow import build_dags
from audioml.orchestration.airflow.messages import describe_event

from ..conftest import write_workspace

HOOK = "airflow:\n  notify:\n    - {name: webhook, url: 'https://hook.example'}\n"


def answer(**more: Any) -> dict[str, Any]:
    return {
        "model": "birds",
        "version": 3,
        "days": ["2026-11-21"],
        "recordings": 500,
        "alarm": True,
        "drifted": ["rms_dbfs"],
        "summary": "Loudness drifted: -20 dBFS to -40 dBFS.",
        "columns": {"rms_dbfs": {"effect": 0.8}, "duration_s": {"effect": 0.1}},
        "retest": {"failed": False},
        "report": "reports/monitoring/2026-11-21/index.html",
        **more,
    }


class Run:
    """A run of the DAG: what is asked of audioml, and what its Airflow tasks hand on."""

    def __init__(self, folder: Path, found: dict[str, Any], run_type: str) -> None:
        self.dag = build_dags(write_workspace(folder, more=HOOK))["birds.monitor"]
        self.found, self.calls = found, list[list[str]]()
        self.pulled: dict[str, Any] = {}
        self.pushed: dict[str, Any] = {}
        self.events: dict[Any, Any] = {}
        fired = datetime.datetime(2026, 11, 22, 2, tzinfo=datetime.UTC)
        self.dag_run = SimpleNamespace(run_type=run_type, logical_date=fired)

    def run(self, name: str) -> Any:
        task = self.dag.get_task(name)

        def run_audioml(*arguments: str, **_: Any) -> str:
            self.calls.append(list(arguments))
            return json.dumps(self.found)

        task.run_audioml = run_audioml
        self.events = {asset: SimpleNamespace(extra={}) for asset in task.outlets}
        ti = SimpleNamespace(
            dag_id="birds.monitor",
            run_id="run-1",
            task_id=name,
            log_url="https://airflow.example/log",
            xcom_push=lambda key, value: self.pushed.update({key: value}),
            xcom_pull=lambda task_ids: self.pulled.get(task_ids),
        )
        self.context = {"ti": ti, "dag_run": self.dag_run, "outlet_events": self.events, "task": task}
        self.pulled[name] = task.execute(self.context)
        return self.pulled[name]


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    return lambda run_type="scheduled", **more: Run(tmp_path / "birds", answer(**more), run_type)


def test_an_alarm_updates_the_asset_and_is_told(make_run: Callable[..., Run]) -> None:
    run = make_run()
    looked = run.run("look")
    # The day before the clock started the run is over.
    assert run.calls == [["monitor", "--json", "--day", "2026-11-21"]]
    assert looked["url"].endswith("/audioml/workspaces/birds/reports/monitoring/2026-11-21/index.html")
    facts = run.run("tell")
    ((asset, event),) = run.events.items()
    assert (asset.name, asset.uri) == ("birds.drift", "audioml://birds/drift")
    assert event.extra == facts
    assert facts["drifted"] == {"rms_dbfs": {"effect": 0.8}}
    assert facts["links"] == {"report": looked["url"]}
    assert "columns" not in facts
    told = describe_event("birds", run.context)
    assert told["state"] == "alarm"
    assert told["error"] == f"Loudness drifted: -20 dBFS to -40 dBFS. {looked['url']}"
    (callback,) = run.dag.get_task("tell").on_success_callback
    assert callback.options == {"url": "https://hook.example", "workspace": "birds"}


def test_without_an_alarm_nobody_is_told(make_run: Callable[..., Run]) -> None:
    run = make_run(alarm=False, drifted=[], summary="No drift.")
    run.run("look")
    with pytest.raises(AirflowSkipException, match=r"No drift\."):
        run.run("tell")
    assert run.pushed == {"reason": "No drift."}
    assert [event.extra for event in run.events.values()] == [{}]


def test_a_person_looks_at_the_newest_day(make_run: Callable[..., Run]) -> None:
    run = make_run("manual")
    run.run("look")
    assert run.calls == [["monitor", "--json"]]


def test_schedule(tmp_path: Path) -> None:
    plain = build_dags(write_workspace(tmp_path / "plain"))["birds.monitor"]
    assert plain.schedule is None
    assert not plain.get_task("tell").on_success_callback
    dag = build_dags(write_workspace(tmp_path / "daily", more="monitor:\n  cron: '0 3 * * *'\n"))["birds.monitor"]
    assert dag.schedule.expression == "0 3 * * *"
    assert not dag.catchup
    with pytest.raises(ParamsError, match=r"'monitor\.cron' is 'often', but it is no cron expression"):
        build_dags(write_workspace(tmp_path / "wrong", more="monitor:\n  cron: often\n"))
