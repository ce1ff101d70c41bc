"""Commands about params: params (of the workspace, with settings, of a run), and runs (what runs were made with)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
import yaml

from audioml.cli._options import AsJson, Workspace
from audioml.cli._output import out, print_json, print_table
from audioml.params import FILE_NAME, load_params

runs_app = typer.Typer(help="Runs of Airflow and the params they were made with.", no_args_is_help=True)
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Change one value, such as training.max_epochs=5; repeatable."),
]
RunKey = Annotated[str, typer.Argument(metavar="RUN", help="The run's key.")]


def params(
    settings: Settings = None,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Start from what this run was made with.")] = None,
    write: Annotated[bool, typer.Option("--write", help="Write params.yaml instead of showing it.")] = False,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Show params.yaml, all of it checked: as it is, with settings, or as a run had it.

    Example: `audioml params --set model.name=bcresnet --set training.max_epochs=5`

    Example: `audioml params --run RUN --write && dvc repro` reproduces a run of Airflow.
    `audioml runs list` names them.
    """
    from audioml.orchestration.overrides import override_file
    from audioml.orchestration.run_params import kept_params
    from audioml.store.files import write_text

    folder = workspace.resolve()
    load_params(folder)
    target = folder / FILE_NAME
    text = override_file(kept_params(folder, run) if run else target, settings or [])
    if as_json:
        print_json(yaml.safe_load(text))
    elif not write:
        out.file.write(text)
    if write:
        write_text(target.resolve(), text)
        if not as_json:
            out.print(f"{target} is written. `audioml plan` says what runs again.", markup=False, soft_wrap=True)


@runs_app.command("list")
def runs_list(workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """List the runs whose params are kept, the newest first.

    Example: `audioml runs list --json`
    """
    from audioml.orchestration.run_params import list_runs

    load_params(workspace.resolve())
    records = list_runs(workspace.resolve())
    if as_json:
        print_json([asdict(record) for record in records])
        return
    rows = [
        (r.key, r.begun[:19].replace("T", " "), (r.ended or "")[:19].replace("T", " "), "\n".join(r.settings))
        for r in records
    ]
    print_table(("run", "begun (UTC)", "ended (UTC)", "settings"), rows)


@runs_app.command()
def begin(key: RunKey, settings: Settings = None, workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """Check a run's params and put them in place, until it ends. Airflow calls this.

    Example: `audioml runs begin manual__1 --set training.max_epochs=5`
    """
    from audioml.orchestration.run_params import begin_run

    begun = begin_run(workspace.resolve(), key, settings or [])
    if as_json:
        print_json(begun)
        return
    for former in begun["ended"]:
        out.print(f"{former} had never ended; its params are put back.", markup=False, soft_wrap=True)
    changes = ", ".join(begun["settings"]) or f"{FILE_NAME} as it is"
    out.print(f"{key} runs with {changes}. Kept in {begun['params']}", markup=False, soft_wrap=True)


@runs_app.command()
def end(key: RunKey, workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """Put params.yaml back as it was before a run. Airflow calls this.

    Example: `audioml runs end manual__1`
    """
    from audioml.orchestration.run_params import end_run

    load_params(workspace.resolve())
    record = end_run(workspace.resolve(), key)
    if as_json:
        print_json(asdict(record))
        return
    said = {
        "unchanged": f"{FILE_NAME} was as it is now.",
        "restored": f"{FILE_NAME} is as it was before.",
        "edited": f"{FILE_NAME} was edited while it ran, and stays so; it holds settings of the run.",
        "unknown": "it never began here, so there is nothing to put back.",
    }
    out.print(f"{key}: {said[record.outcome or 'unknown']}", markup=False, soft_wrap=True)
