"""Commands for the embedded stack of Airflow and MLflow: up, down, status, demo."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from audioml.cli._options import AsJson, Workspace
from audioml.cli._output import out, print_json, print_table
from audioml.pipeline.context import Context


def up(
    airflow_port: Annotated[int | None, typer.Option(min=1, max=65535, show_default="a free port")] = None,
    mlflow_port: Annotated[int | None, typer.Option(min=1, max=65535, show_default="a free port")] = None,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Start Airflow and MLflow for this workspace, in the background.

    Example: `audioml up --airflow-port 8080 --mlflow-port 5000`
    """
    from audioml.orchestration import stack

    ctx = Context.load(workspace)
    _print_stack(stack.up(ctx, airflow_port=airflow_port, mlflow_port=mlflow_port), as_json)


def down(workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """Stop everything that `audioml up` started; leaves no process behind.

    Example: `audioml down`
    """
    from audioml.orchestration import stack

    stopped = stack.down(Context.load(workspace))
    if as_json:
        print_json({"stopped": stopped})
    else:
        out.print(f"Stopped: {', '.join(stopped)}" if stopped else "Nothing was running.", markup=False)


def status(workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """Show what of the stack is running, with addresses, logs and the login.

    Example: `audioml status --json`
    """
    from audioml.orchestration import stack

    _print_stack(stack.status(Context.load(workspace)), as_json)


def airflow(
    arguments: Annotated[list[str], typer.Argument(metavar="COMMAND...", help="As `airflow` takes them.")],
    workspace: Workspace = Path(),
) -> None:
    """Run a command of Airflow's own against the workspace's Airflow.

    Example: `audioml airflow backfill create --dag-id birds.ingest --from-date 2026-01-01 --to-date 2026-01-31T23:59`
    """
    from audioml.orchestration import stack

    raise typer.Exit(stack.run_airflow(Context.load(workspace), arguments))


def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the demo's workspace is made.")] = Path(
        "audioml-demo"
    ),
    stop: Annotated[bool, typer.Option("--stop", help="Stop the stack at the end.")] = False,
) -> None:
    """Run the whole product on a corpus of spoken commands that it makes on the spot.

    Example: `audioml demo`
    """
    from audioml.orchestration.demo import run_demo

    run_demo(folder, stop=stop)


def _print_stack(stack_status: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(stack_status)
        return
    rows = [
        (name, "running" if s["running"] else "stopped", s.get("url") or "", os.path.relpath(s["log"]))
        for name, s in stack_status["services"].items()
    ]
    print_table(("service", "state", "address", "log"), rows)
    if login := stack_status.get("login"):
        out.print(f"Airflow login: {login['username']} / {login['password']}", markup=False)
