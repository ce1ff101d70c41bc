"""The commands. Each parses its options, calls one function of a lower layer, and prints its answer.

Nothing heavy is imported until a command needs it: `audioml --help` stays quick.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import audioml
from audioml.errors import AudiomlError, ParamsError, ServiceError
from audioml.pipeline.context import Context
from audioml.pipeline.graph import STEPS, find_step

if TYPE_CHECKING:
    from audioml.serving.model import LoadedModel

app = typer.Typer(
    help="Audio in, served and monitored models out.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_out = Console(highlight=False)
_err = Console(stderr=True, highlight=False)

Workspace = Annotated[
    Path, typer.Option("--workspace", "-C", help="Folder with params.yaml.", show_default="current folder")
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer as JSON on standard output.")]
ModelRef = Annotated[
    str | None,
    typer.Option(help="NAME@ALIAS or NAME/VERSION of a registered model.", show_default="this workspace's @champion"),
]
StepName = Annotated[str, typer.Argument(help=f"One of: {', '.join(s.name for s in STEPS)}.")]


def main() -> None:
    """Run the command line; an audioml error ends it with its message, not with a traceback.

    Exit status: 1 for what trying again does not mend, 75 (EX_TEMPFAIL) for a service that is not available,
    2 for wrong options, 70 (EX_SOFTWARE) with a traceback for a fault of the program or the machine.
    """
    try:
        app()
    except AudiomlError as error:
        _err.print("[bold red]Error[/]", end=" ")
        _err.print(str(error), markup=False, soft_wrap=True)
        sys.exit(os.EX_TEMPFAIL if isinstance(error, ServiceError) else 1)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:  # noqa: BLE001, it is shown whole; only the exit status is ours
        traceback.print_exc()
        sys.exit(os.EX_SOFTWARE)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        _out.print(audioml.__version__)
        raise typer.Exit


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new workspace.")],
    data: Annotated[
        str | None, typer.Option(help="Folder of recordings, or a table (CSV, Parquet, JSON lines).")
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help="folder, filename, table or spoken_commands.", show_default="what fits SRC")
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Regular expression; its named groups in file names become columns.")
    ] = None,
    label: Annotated[str, typer.Option(help="Column that holds the label.")] = "label",
    group: Annotated[str | None, typer.Option(help="Column whose values stay whole in one split.")] = None,
    test: Annotated[str | None, typer.Option(help="pandas query over the manifest that fixes the test set.")] = None,
    fold: Annotated[str | None, typer.Option(help="Column with the corpus's own folds.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model.", show_default="DIR's name")] = None,
    storage_option: Annotated[
        list[str] | None, typer.Option(help="For a URL: KEY=VALUE for fsspec, such as endpoint_url=...; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    r"""Make a workspace for a folder of recordings, here or at a URL.

    Example: `audioml init birds --data ~/recordings`

    Example: `audioml init birds --data s3://bucket/recordings --storage-option endpoint_url=https://minio.example`

    Example: `audioml init digits --data fsdd/recordings --layout filename --pattern
    '(?P<label>\d)_(?P<speaker>\w+)_(?P<index>\d+)' --test 'index < 5'`
    """
    from audioml.orchestration.workspace import Choices, create_workspace, parse_options

    choices = Choices(
        source=data,
        layout=layout,
        pattern=pattern,
        label=label,
        group=group,
        test=test,
        fold=fold,
        name=name,
        storage_options=parse_options(storage_option or []),
    )
    created = create_workspace(folder, choices)
    if as_json:
        _print_json(created.as_dict())
        return
    for line in created.findings:
        _out.print(line, markup=False)
    _out.print(f"[bold green]Workspace[/] {created.folder}")
    _out.print(
        f"Next: cd {folder} && dvc repro    (or: audioml up, then trigger the DAG {created.name})",
        markup=False,
        soft_wrap=True,
    )


@app.command()
def run(
    step: StepName,
    plan: Annotated[bool, typer.Option("--plan", help="Only list the work items that are to do.")] = False,
    item: Annotated[str | None, typer.Option(help="Only do the planned item of this id.")] = None,
    collect: Annotated[bool, typer.Option("--collect", help="Only merge, check and report.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes.", show_default="one a core")] = None,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Run one step of the pipeline, or one part of it.

    Example: `audioml run featurize`

    Example: `audioml run featurize --plan`, then `audioml run featurize --item ID` for each,
    then `audioml run featurize --collect`
    """
    from audioml.pipeline import runner

    if sum([plan, item is not None, collect]) > 1:
        raise ParamsError(
            "--plan, --item and --collect are parts of a run: give one of them, or none for the whole run."
        )
    found = find_step(step)
    ctx = Context.load(workspace)
    if plan:
        items = runner.plan_step(ctx, found)
        if as_json:
            _print_json([{"id": i.id, "label": i.label} for i in items])
        else:
            _print_table(("item", "holds"), [(i.id, i.label) for i in items])
        return
    if item is not None:
        summary = runner.work_item(ctx, found, item)
    elif collect:
        summary = runner.collect_step(ctx, found)
    else:
        summary = runner.run_step(ctx, found, jobs)
    _print_summary(found.name, summary, as_json)


@app.command()
def plan(
    step: Annotated[str | None, typer.Argument(help="Only this step, as things stand now.")] = None,
    restore: Annotated[
        bool, typer.Option("--restore", help="Bring STEP's outputs back from DVC's run cache if it holds them.")
    ] = False,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Say which steps would run, and why: which input, param or code changed.

    Example: `audioml plan`
    """
    from audioml.orchestration import dvc

    ctx = Context.load(workspace)
    only = find_step(step) if step else None
    if only is None:
        ctx.params.load_all_sections()
    decisions = dvc.decide(ctx, only)
    if restore and only and decisions[0].run and dvc.restore_step(ctx, only):
        decisions = [dvc.Decision(only.name, False, ("restored from DVC's run cache",))]
    if as_json:
        _print_json({d.step: {"run": d.run, "reasons": list(d.reasons)} for d in decisions})
        return
    rows = [(d.step, "run" if d.run else "up to date", "\n".join(d.reasons) if d.run else "") for d in decisions]
    _print_table(("step", "", "why"), rows)


@app.command()
def record(step: StepName, workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """Record a step that ran outside `dvc repro` in dvc.lock and DVC's cache.

    Example: `audioml run featurize && audioml record featurize`
    """
    from audioml.orchestration import dvc

    found = find_step(step)
    dvc.record_step(Context.load(workspace), found)
    _print_summary(found.name, {"recorded": [o.path for o in found.outputs]}, as_json)


@app.command()
def render(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if dvc.yaml is not as rendered.")] = False,
    workspace: Workspace = Path(),
) -> None:
    """Write dvc.yaml from the graph of steps; needed after an upgrade of audioml that changes it.

    Example: `audioml render`
    """
    from audioml.orchestration import dvc
    from audioml.store.files import write_text

    ctx = Context.load(workspace)
    if not check:
        write_text(ctx.path("dvc.yaml"), dvc.render_dvc_yaml(ctx.params))
    dvc.check_rendering(ctx)
    _out.print(f"{ctx.path('dvc.yaml')} is as rendered.", markup=False)


@app.command()
def check(
    deep: Annotated[bool, typer.Option("--deep", help="Read every byte and compare checksums.")] = False,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Check the packed clips and the feature shards; damaged ones are moved aside for the next run to make again.

    Example: `audioml check --deep`
    """
    from audioml.pipeline.check import check_store, remedies

    n_files, findings = check_store(Context.load(workspace), deep)
    if as_json:
        _print_json({"files": n_files, "findings": [asdict(finding) for finding in findings]})
    elif findings:
        _print_table(("file", "problem"), [(finding.file, finding.problem) for finding in findings])
        _out.print(
            f"{len(findings)} of {n_files} files are bad. Make them again with: {' && '.join(remedies(findings))}"
        )
    elif not n_files:
        _out.print("There is nothing to check yet. Make it with: audioml run ingest")
    else:
        _out.print(f"{n_files} files are {'what their checksums say' if deep else 'there and whole'}.")
    if findings:
        raise typer.Exit(1)


@app.command()
def compact(
    jobs: Annotated[int | None, typer.Option(min=1, help="Worker processes.", show_default="one a core")] = None,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Pack small shards, and those that hold withdrawn clips, into full ones. No clip changes.

    Example: `audioml compact`
    """
    from audioml.orchestration.compact import compact as compact_workspace

    _print_summary("compact", compact_workspace(Context.load(workspace), jobs), as_json)


@app.command()
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


@app.command()
def down(workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """Stop everything that `audioml up` started; leaves no process behind.

    Example: `audioml down`
    """
    from audioml.orchestration import stack

    stopped = stack.down(Context.load(workspace))
    if as_json:
        _print_json({"stopped": stopped})
    else:
        _out.print(f"Stopped: {', '.join(stopped)}" if stopped else "Nothing was running.", markup=False)


@app.command()
def status(workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """Show what of the stack is running, with addresses, logs and the login.

    Example: `audioml status --json`
    """
    from audioml.orchestration import stack

    _print_stack(stack.status(Context.load(workspace)), as_json)


@app.command()
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


@app.command()
def predict(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Audio files of any format.")],
    model: ModelRef = None,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Predict with a registered model.

    Example: `audioml predict clip.wav --model digits@champion`
    """
    from audioml.serving.batch import predict_files

    answers = predict_files(Context.load(workspace), files, model)
    if as_json:
        _print_json(answers)
    else:
        _print_table(("file", "answer", "probability"), [_answer_row(answer) for answer in answers])
    if any("error" in answer for answer in answers):
        raise typer.Exit(1)


@app.command()
def serve(
    model: ModelRef = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    workspace: Workspace = Path(),
) -> None:
    """Serve a registered model over HTTP: POST /predict with audio as multipart file or raw body.

    Example: `audioml serve --port 8000`, then `curl -F file=@clip.wav localhost:8000/predict`
    """
    from audioml.serving.run import serve as run_server

    def announce(address: str, loaded: LoadedModel) -> None:
        _out.print(f"{loaded.name} version {loaded.version} answers at {address} (POST /predict, /docs)", markup=False)

    run_server(Context.load(workspace), model, host, port, on_ready=announce)


def _answer_row(answer: dict[str, Any]) -> tuple[str, ...]:
    if error := answer.get("error"):
        return answer["file"], f"not readable as audio ({error['reason']}: {error['detail']})", ""
    return answer["file"], answer["label"], f"{answer['probability']:.3f}"


def _print_json(value: Any) -> None:
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def _print_table(headers: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    table = Table(box=None, header_style="bold")
    for header in headers:
        table.add_column(header, overflow="fold")
    for row in rows:
        table.add_row(*[str(cell).replace("[", r"\[") for cell in row])
    _out.print(table)


def _print_summary(step: str, summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(summary, ensure_ascii=False) + "\n")
        return
    text = ", ".join(f"{k.replace('_', ' ')} {_short(v)}" for k, v in summary.items())
    _out.print(f"{step}: {text or 'done'}", markup=False, soft_wrap=True)


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if value in ({}, [], ()):
        return "none"
    if isinstance(value, dict):
        return "(" + ", ".join(f"{k} {_short(v)}" for k, v in value.items()) + ")"
    if isinstance(value, list | tuple):
        return " ".join(_short(v) for v in value)
    return str(value)


def _print_stack(stack_status: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(stack_status)
        return
    rows = [
        (name, "running" if s["running"] else "stopped", s.get("url") or "", os.path.relpath(s["log"]))
        for name, s in stack_status["services"].items()
    ]
    _print_table(("service", "state", "address", "log"), rows)
    if login := stack_status.get("login"):
        _out.print(f"Airflow login: {login['username']} / {login['password']}", markup=False)


if __name__ == "__main__":
    main()
