"""Commands that run steps, and say what they would do or did: run, plan, describe, record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from audioml.cli._options import AsJson, Jobs, StepName, Workspace
from audioml.cli._output import print_json, print_summary, print_table
from audioml.errors import ParamsError
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step


def run(
    step: StepName,
    plan: Annotated[bool, typer.Option("--plan", help="Only list the work items that are to do.")] = False,
    item: Annotated[list[str] | None, typer.Option(help="Only do the planned item of this id; repeatable.")] = None,
    collect: Annotated[bool, typer.Option("--collect", help="Only merge, check and report.")] = False,
    partition: Annotated[
        str | None,
        typer.Option(help="Ingest only this folder of the source, such as 2026-01-31; see data.partition."),
    ] = None,
    jobs: Jobs = None,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Run one step of the pipeline, or one part of it.

    Example: `audioml run featurize`

    Example: `audioml run featurize --plan`, then `audioml run featurize --item ID` for each,
    then `audioml run featurize --collect`

    Example: `audioml run ingest --partition 2026-01-31`
    """
    from audioml.pipeline import runner

    if sum([plan, bool(item), collect]) > 1:
        raise ParamsError(
            "--plan, --item and --collect are parts of a run: give one of them, or none for the whole run."
        )
    found = find_step(step)
    if partition is not None and found.name != "ingest":
        raise ParamsError(f"--partition is for ingest: {found.name} takes all that was ingested. Leave it out.")
    ctx = Context.load(workspace, partition)
    if plan:
        items = runner.plan_step(ctx, found)
        if as_json:
            print_json([{"id": i.id, "label": i.label, "clips": i.clips} for i in items])
        else:
            print_table(("item", "holds"), [(i.id, i.label) for i in items])
        return
    if item:
        summary = runner.work_items(ctx, found, item)
    elif collect:
        summary = runner.collect_step(ctx, found)
    else:
        summary = runner.run_step(ctx, found, jobs)
    print_summary(found.name, summary, as_json)


def plan(
    step: Annotated[str | None, typer.Argument(help="Only this step, as things stand now.")] = None,
    restore: Annotated[
        bool, typer.Option("--restore", help="Bring STEP's outputs back from DVC's run cache if it holds them.")
    ] = False,
    partition: Annotated[
        str | None, typer.Option(help="For a run that ingests only this partition: nothing, if it has no folder yet.")
    ] = None,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Say which steps would run, and why: which input, param or code changed.

    Example: `audioml plan`
    """
    from audioml.orchestration import dvc

    ctx = Context.load(workspace, partition)
    only = find_step(step) if step else None
    if only is None:
        ctx.params.load_all_sections()
    decisions = dvc.decide(ctx, only)
    if restore and only and decisions[0].run and dvc.restore_step(ctx, only):
        decisions = [dvc.Decision(only.name, False, ("restored from DVC's run cache",))]
    if as_json:
        print_json({d.step: {"run": d.run, "reasons": list(d.reasons)} for d in decisions})
        return
    rows = [
        (d.step, "run" if d.run else "up to date", "\n".join(d.reasons) if d.run or partition else "")
        for d in decisions
    ]
    print_table(("step", "", "why"), rows)


def describe(
    asset: Annotated[str, typer.Argument(help="One of: dataset, features, model.")],
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Say what the workspace holds: counts, hashes, and where to look. Airflow's asset events carry the same.

    Example: `audioml describe dataset`
    """
    from audioml.orchestration.facts import asset_facts

    print_summary(asset, asset_facts(Context.load(workspace), asset), as_json)


def record(step: StepName, workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """Record a step that ran outside `dvc repro` in dvc.lock and DVC's cache.

    Example: `audioml run featurize && audioml record featurize`
    """
    from audioml.orchestration import dvc

    found = find_step(step)
    dvc.record_step(Context.load(workspace), found)
    print_summary(found.name, {"recorded": [o.path for o in found.outputs]}, as_json)
