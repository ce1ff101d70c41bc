"""`audioml demo`: the whole product on a corpus of spoken commands that is made on the spot."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from audioml.errors import ServiceError, StepError
from audioml.orchestration import stack
from audioml.orchestration.airflow_client import AirflowClient
from audioml.orchestration.progress import follow_run
from audioml.params import FILE_NAME
from audioml.pipeline.context import Context
from audioml.store.files import read_json

PREDICT_TIMEOUT_S = 60.0
DAG_TIMEOUT_S = 120.0
"""Seconds for Airflow to read the DAG file; it takes one or two."""


def run_demo(folder: Path, *, stop: bool = False) -> None:
    """Make a workspace, start the stack, run the DAG with live progress, and predict held-out clips over HTTP.

    A folder that is a workspace of the demo already is used as it is: steps that are up to date are skipped.

    Parameters
    ----------
    folder : Path
        The workspace.
    stop : bool
        True to stop the stack at the end, also after an error.

    Raises
    ------
    StepError
        When a step failed, with the end of its log.
    ServiceError
        When a part of the stack does not start or does not answer.
    """
    console = Console(highlight=False)
    start = time.monotonic()
    ctx = _make_workspace(folder, console)
    try:
        services = stack.up(ctx)
        console.print(f"Airflow and MLflow run ({time.monotonic() - start:.0f} s).")
        with stack.client(ctx) as airflow:
            run_id = _run_dag(airflow, ctx, console)
            run_page = f"{airflow.url}/dags/{ctx.params.name}/runs/{run_id}"
        url = stack.start_model_server(ctx)
        _show_predictions(url, choose_clips(ctx), console)
        _show_accuracy(ctx, console)
        _show_addresses(ctx, services, url, run_page, console, stopped=stop)
        console.print(f"Done in {time.monotonic() - start:.0f} s.")
    finally:
        if stop:
            stack.down(ctx)


def choose_clips(ctx: Context) -> list[dict[str, Any]]:
    """Return one held-out clip of each label: path, label and bytes."""
    from audioml.store.clips import FOLDER, read_clips
    from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits

    splits = read_splits(ctx.path(SPLITS))
    test = set(splits.loc[splits["split"] == "test", "clip_id"])
    manifest = read_manifest(ctx.path(MANIFEST))
    held_out = manifest[manifest["clip_id"].isin(test)]
    chosen = held_out.groupby("label").sample(1, random_state=ctx.params.seed).sort_values("label")
    return [
        {
            "path": clip.path,
            "label": str(clip.label),
            "data": read_clips(ctx.path(FOLDER) / str(clip.shard), [int(str(clip.row))])[0][1],
        }
        for clip in chosen.itertuples()
    ]


def _make_workspace(folder: Path, console: Console) -> Context:
    from audioml.orchestration.workspace import Choices, create_workspace

    if not (folder / FILE_NAME).exists():
        created = create_workspace(folder, Choices(layout="spoken_commands", group="voice"))
        for line in created.findings:
            console.print(line, markup=False)
    console.print(f"Workspace {folder.resolve()}", markup=False)
    return Context.load(folder)


def _run_dag(airflow: AirflowClient, ctx: Context, console: Console) -> str:
    dag_id = ctx.params.name
    airflow.wait_for_dag(dag_id, DAG_TIMEOUT_S)
    airflow.unpause(dag_id)
    run_id = airflow.trigger(dag_id)
    console.print(f"Airflow runs the DAG {dag_id}.", markup=False)
    if follow_run(airflow, dag_id, run_id, console) == "success":
        return run_id
    failed = [task for task in airflow.task_instances(dag_id, run_id) if task.state == "failed"]
    logs = "\n\n".join(f"{task.label}:\n{airflow.log_tail(dag_id, run_id, task)}" for task in failed[:3])
    raise StepError(
        f"The run {run_id} of {dag_id} failed. The end of the log of each failed Airflow task:\n\n{logs}\n\n"
        f"Airflow still runs at {airflow.url}; stop it with: audioml down -C {ctx.workspace}"
    )


def _show_predictions(url: str, clips: list[dict[str, Any]], console: Console) -> None:
    table = Table(box=None, header_style="bold", title="Held-out clips, over HTTP", title_justify="left")
    for header in ("clip", "truth", "prediction"):
        table.add_column(header)
    for header in ("probability", "ms"):
        table.add_column(header, justify="right")
    with httpx.Client(timeout=PREDICT_TIMEOUT_S, trust_env=False) as http:
        for clip in clips:
            response = http.post(f"{url}/predict", files={"file": (Path(clip["path"]).name, clip["data"])})
            answer = response.json()
            if not response.is_success:
                raise ServiceError(f"The model server refused {clip['path']}: {answer}")
            style = "green" if answer["label"] == clip["label"] else "red"
            probability, milliseconds = answer["probabilities"][answer["label"]], answer["timing_ms"]["total"]
            prediction = f"[{style}]{answer['label']}[/]"
            table.add_row(clip["path"], clip["label"], prediction, f"{probability:.3f}", f"{milliseconds:.1f}")
    console.print(table)


def _show_accuracy(ctx: Context, console: Console) -> None:
    test = read_json(ctx.path("reports/metrics.json"))["test"]
    metric = next(iter(test))
    console.print(
        f"Test {metric}: [bold]{test[metric]:.2%}[/] (95 % interval {test['low']:.2%} to {test['high']:.2%}, "
        f"{test['n']} clips of voices that training never heard)",
        soft_wrap=True,
    )


def _show_addresses(
    ctx: Context, services: dict[str, Any], url: str, run_page: str, console: Console, *, stopped: bool
) -> None:
    login = services["login"]
    rows = [
        ("Report", ctx.path("reports/evaluation/index.html").as_uri()),
        ("Data Docs", ctx.path("reports/validation/index.html").as_uri()),
    ]
    if not stopped:
        rows = [
            ("Airflow", f"{run_page}   (login {login['username']} / {login['password']})"),
            ("MLflow", f"{services['services'][stack.MLFLOW]['url']}/#/models/{ctx.model_name}"),
            ("Model server", f"{url}   (curl -F file=@clip.wav {url}/predict)"),
            *rows,
            ("Stop", f"audioml down -C {ctx.workspace}"),
        ]
    for name, value in rows:
        console.print(f"{name:<13} {value}", markup=False, soft_wrap=True)
