"""Follow a run of a workspace's DAG in the terminal, step by step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from audioml.orchestration.airflow_client import FINISHED, AirflowClient, AirflowTask
from audioml.pipeline.graph import STEPS

POLL_INTERVAL_S = 1.0
STYLES = {"success": "green", "skipped": "cyan", "failed": "bold red", "running": "yellow"}
SYMBOLS = {"success": "✓", "skipped": "–", "failed": "✗", "waiting": " "}


@dataclass(frozen=True)
class StepProgress:
    """Where one step of a DAG run stands."""

    name: str
    state: str
    """waiting, queued, running, success, skipped, failed, or not run (a step before it failed)."""
    n_done: int
    """Mapped items that are done."""
    n_items: int
    """Mapped items; 0 for a step that is not mapped, or not yet."""
    seconds: float | None
    """From the start of its first Airflow task to the end of its last, or to now."""


def summarize(tasks: Sequence[AirflowTask], now_s: float) -> list[StepProgress]:
    """Return where each step stands.

    Parameters
    ----------
    tasks : sequence of AirflowTask
        All Airflow tasks of the run, named ``<step>.<part>``.
    now_s : float
        Seconds since the epoch, for steps that run.
    """
    return [_summarize_step(step.name, [t for t in tasks if t.step == step.name], now_s) for step in STEPS]


def _summarize_step(name: str, tasks: list[AirflowTask], now_s: float) -> StepProgress:
    states = [t.state for t in tasks]
    record = next((t.state for t in tasks if t.part == "record"), None)
    if "failed" in states:
        state = "failed"
    elif record in ("success", "skipped"):
        state = record
    elif record == "upstream_failed":
        state = "not run"
    elif any(s == "running" for s in states) or "success" in states:
        state = "running"
    else:
        state = "queued" if any(s in ("queued", "scheduled", "up_for_retry") for s in states) else "waiting"
    items = [t for t in tasks if t.part == "work" and t.map_index >= 0]
    starts = [t.start_s for t in tasks if t.start_s is not None]
    ends = [t.end_s for t in tasks if t.end_s is not None]
    end_s = now_s if state == "running" else max(ends, default=now_s)
    seconds = max(0.0, end_s - min(starts)) if starts and state != "not run" else None
    return StepProgress(name, state, sum(t.state == "success" for t in items), len(items), seconds)


def follow_run(airflow: AirflowClient, dag_id: str, run_id: str, console: Console) -> str:
    """Show a run until it has ended and return its state: success or failed.

    In a terminal a table is kept up to date, with the last line of what runs; elsewhere each change of a step's state
    is one line.
    """
    if console.is_terminal:
        return _follow_live(airflow, dag_id, run_id, console)
    shown: dict[str, str] = {}
    while True:
        state = airflow.run_state(dag_id, run_id)
        for step in summarize(airflow.task_instances(dag_id, run_id), time.time()):
            line = _plain_line(step)
            if step.state not in ("waiting", "queued") and shown.get(step.name) != step.state:
                console.print(line, markup=False)
                shown[step.name] = step.state
        if state in FINISHED:
            return state
        time.sleep(POLL_INTERVAL_S)


def _follow_live(airflow: AirflowClient, dag_id: str, run_id: str, console: Console) -> str:
    with Live(console=console, refresh_per_second=8) as live:
        while True:
            state = airflow.run_state(dag_id, run_id)
            tasks = airflow.task_instances(dag_id, run_id)
            running = next((t for t in tasks if t.state == "running"), None)
            last = airflow.log_tail(dag_id, run_id, running, lines=1) if running and state not in FINISHED else ""
            live.update(Group(_table(summarize(tasks, time.time())), Text(last[: console.width], style="dim")))
            if state in FINISHED:
                live.update(_table(summarize(tasks, time.time())))
                return state
            time.sleep(POLL_INTERVAL_S)


def _table(steps: Sequence[StepProgress]) -> Table:
    table = Table(box=None, header_style="bold")
    for header in ("", "step", "state", "items", ""):
        table.add_column(header)
    table.add_column("seconds", justify="right")
    for step in steps:
        style = STYLES.get(step.state, "dim")
        symbol = Spinner("dots", style=style) if step.state == "running" else Text(SYMBOLS.get(step.state, " "), style)
        table.add_row(
            symbol,
            step.name,
            Text(step.state, style),
            f"{step.n_done}/{step.n_items}" if step.n_items else "",
            ProgressBar(step.n_items, step.n_done, width=20) if step.n_items else "",
            "" if step.seconds is None else f"{step.seconds:.1f}",
        )
    return table


def _plain_line(step: StepProgress) -> str:
    items = f", {step.n_items} items" if step.n_items else ""
    seconds = "" if step.seconds is None or step.state == "running" else f", {step.seconds:.1f} s"
    return f"{step.name}: {step.state}{items}{seconds}"
