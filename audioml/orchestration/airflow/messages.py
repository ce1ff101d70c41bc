"""What a notifier says: of a failed Airflow task, a missed deadline, a decision that waits for a person, an alarm.

The context that Airflow gives to a notifier is that of an Airflow task; for a missed deadline it is plain dictionaries
of the DAG run and of the deadline, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import quote

from airflow.sdk.configuration import conf

FAILED, LATE, WAITING, ALARM = "failed", "deadline missed", "waiting for a decision", "alarm"
MAX_ERROR_CHARACTERS = 2000


def describe_event(workspace: str, context: Mapping[str, Any]) -> dict[str, str | None]:
    """Return an event as JSON values: workspace, dag, run, task, state, error, url, text."""
    described = _describe_deadline(context) if "deadline" in context else _describe_task(context)
    event = {"workspace": workspace, **described}
    return {**event, "text": _as_text(event)}


def subject_of(workspace: str, context: Mapping[str, Any]) -> str:
    """Return one line: what happened, and where."""
    event = describe_event(workspace, context)
    where = f"{event['dag']}, {event['task']}" if event["task"] else event["dag"]
    return f"audioml {workspace}: {event['state']} ({where})"


def html_of(workspace: str, context: Mapping[str, Any]) -> str:
    """Return the event as an HTML table, with a link to its page in Airflow."""
    event = describe_event(workspace, context)
    rows = [(name, event[name]) for name in ("workspace", "dag", "run", "task", "state") if event[name]]
    cells = "".join(f'<tr><th align="left">{name}</th><td>{escape(value or "")}</td></tr>' for name, value in rows)
    error = f"<pre>{escape(event['error'])}</pre>" if event["error"] else ""
    return f'<table>{cells}</table>{error}<p><a href="{escape(event["url"] or "")}">Open it in Airflow</a></p>'


def base_url() -> str:
    """Return the address at which people reach Airflow, as set in `[api] base_url`."""
    return str(conf.get("api", "base_url", fallback="http://localhost:8080")).rstrip("/")


def _describe_deadline(context: Mapping[str, Any]) -> dict[str, str | None]:
    run, time = context["dag_run"], str(context["deadline"]["deadline_time"])
    return {
        "dag": run["dag_id"],
        "run": run["dag_run_id"],
        "task": None,
        "state": LATE,
        "error": f"The run should have ended by {time}; it is {run['state']}.",
        "url": f"{base_url()}/dags/{quote(run['dag_id'])}/runs/{quote(run['dag_run_id'])}",
    }


def _describe_task(context: Mapping[str, Any]) -> dict[str, str | None]:
    ti, error = context["ti"], context.get("exception")
    waits = error is None and hasattr(context.get("task"), "hitl_summary")
    alarm = getattr(context.get("task"), "alarm", "") if error is None else ""
    url = str(ti.log_url)
    return {
        "dag": ti.dag_id,
        "run": ti.run_id,
        "task": ti.task_id,
        "state": ALARM if alarm else WAITING if waits else FAILED,
        "error": alarm or (None if waits else _error_text(error)),
        "url": f"{url.partition('?')[0]}/required_actions" if waits else url,
    }


def _error_text(error: Any) -> str:
    text = str(error or "") or "It ended without a message; its log may tell more."
    return text if len(text) <= MAX_ERROR_CHARACTERS else text[:MAX_ERROR_CHARACTERS] + " ..."


def _as_text(event: Mapping[str, str | None]) -> str:
    where = ", ".join(filter(None, [event["dag"], f"run {event['run']}", event["task"]]))
    return "\n".join(
        filter(None, [f"audioml {event['workspace']}: {event['state']} ({where})", event["error"], event["url"]])
    )
