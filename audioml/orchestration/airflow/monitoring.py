"""Monitoring as Airflow tasks: `look` compares a day with the reference, `tell` updates the asset `drift` on an alarm.

It reads the log of predictions and the registry, and writes nothing that a step reads, so it needs no lease.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, Context
from airflow.sdk.exceptions import AirflowSkipException

from audioml.orchestration.airflow.alerts import drift_callbacks
from audioml.orchestration.airflow.links import RegisteredModelLink, report_url
from audioml.orchestration.airflow.operators import AudiomlOperator
from audioml.orchestration.airflow.schedules import BY_CLOCK
from audioml.params import Params

MONITOR, LOOK, TELL = "monitor", "look", "tell"


class MonitorOperator(AudiomlOperator):
    """Compare what was heard and said on a day with the reference; write report, metrics and gauges."""

    ends_with_run = False
    operator_extra_links = (RegisteredModelLink(),)

    def __init__(self, *, name: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name

    def execute(self, context: Context) -> dict[str, Any]:
        """Return what was found, as `audioml monitor --json` says it, with the address of the report."""
        found: dict[str, Any] = json.loads(self.run_audioml("monitor", "--json", *day_options(context), capture=True))
        url = report_url(self.name, found["report"].removeprefix("reports/").removesuffix("/index.html"))
        self.log.info("%s %s", found["summary"], url)
        return {**found, "url": url}


class TellOperator(AudiomlOperator):
    """Update the asset `drift`, and have the notifiers tell of it; skipped where there is no alarm."""

    ends_with_run = False
    alarm = ""
    """What the notifiers say."""

    def __init__(self, *, found_by: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.found_by = found_by

    def execute(self, context: Context) -> dict[str, Any]:
        """Return what the event of the asset carries."""
        found = context["ti"].xcom_pull(task_ids=self.found_by)
        context["ti"].xcom_push(key="reason", value=found["summary"])
        if not found["alarm"]:
            raise AirflowSkipException(found["summary"])
        self.alarm = f"{found['summary']} {found['url']}"
        facts = drift_facts(found)
        for outlet in self.outlets:
            context["outlet_events"][outlet].extra = facts
        return facts


def add_monitoring(dag: DAG, folder: Path, params: Params, outlets: Sequence[Asset]) -> None:
    """Add the Airflow tasks to a DAG.

    Parameters
    ----------
    dag : DAG
        Where to.
    folder : Path
        The workspace.
    params : Params
        Of the workspace.
    outlets : sequence of Asset
        Updated on an alarm.
    """
    common: dict[str, Any] = {
        "workspace": str(folder),
        "pool": params.airflow.pools.cpu,
        "execution_timeout": timedelta(hours=params.airflow.step_timeout_h),
    }
    with dag:
        look = MonitorOperator(task_id=LOOK, name=params.name, **common)
        told = drift_callbacks(params)
        tell = TellOperator(task_id=TELL, found_by=LOOK, outlets=outlets, on_success_callback=told, **common)
        look >> tell


def day_options(context: Context) -> list[str]:
    """Return the options that name a DAG run's day: the one before the clock started it, which is over by then.

    A person's run looks at the newest day of the log.
    """
    run = context["dag_run"]
    by_clock = str(getattr(run.run_type, "value", run.run_type)) in BY_CLOCK
    if not (by_clock and run.logical_date):
        return []
    day = run.logical_date.astimezone(datetime.UTC).date() - timedelta(days=1)
    return ["--day", str(day)]


def drift_facts(found: dict[str, Any]) -> dict[str, Any]:
    """Return what an event of the asset `drift` carries, from the answer of `audioml monitor`."""
    drifted = {name: found["columns"][name] for name in found["drifted"]}
    return {
        **{name: found[name] for name in ("model", "version", "days", "recordings", "summary")},
        "drifted": drifted,
        "retest": found["retest"],
        "links": {"report": found["url"]},
    }
