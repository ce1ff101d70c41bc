"""The command that searches for params: `audioml tune`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from audioml.cli._options import AsJson, Workspace
from audioml.cli._output import out, print_json, print_summary, print_table
from audioml.errors import ParamsError
from audioml.pipeline.context import Context

SHOWN_TRIALS = 10


def tune(
    trials: Annotated[int | None, typer.Option(min=1, help="Trials in all.", show_default="tune.trials")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Trials at once.", show_default="tune.jobs")] = None,
    write: Annotated[bool, typer.Option("--write", help="Write the best trial's values into params.yaml.")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="Only begin, and list the trials that are left.")] = False,
    next_: Annotated[bool, typer.Option("--next", help="Only do the next trial of a search that has begun.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Only compare what is done.")] = False,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Search for params (the section `tune`) on the clips that the model is trained on. A search goes on where it was.

    Example: `audioml tune --trials 30 --jobs 2`, then `audioml tune --report --write`
    """
    from audioml.orchestration import tuning
    from audioml.registry.tracking import tracking

    if sum([plan, next_, report]) > 1 or (write and (plan or next_)):
        raise ParamsError("--plan, --next and --report are parts of a search: give one of them; --write comes last.")
    ctx = Context.load(workspace)
    if plan:
        left = tuning.plan_tuning(ctx, trials)
        if as_json:
            print_json([{"id": name, "label": name, "clips": 0} for name in left])
        else:
            out.print("\n".join(left))
        return
    if next_:
        print_summary("tune", tuning.work_tuning(ctx) or {"trials_left": 0}, as_json)
        return
    # One MLflow server for all trials, rather than one for each.
    with tracking(ctx) if ctx.params.tune.space else nullcontext():
        found = tuning.report_tuning(ctx) if report else tuning.run_tuning(ctx, trials, jobs)
    if write:
        tuning.write_winner(ctx, found["settings"])
    if as_json:
        print_json(found)
        return
    _print(found, written=write)


def _print(found: dict[str, Any], *, written: bool) -> None:
    paths = list(found["best"]["values"])
    rows = [
        (str(trial["number"]), f"{trial['value']:.4g}", *(_show(trial["values"][path]) for path in paths))
        for trial in found["trials"][:SHOWN_TRIALS]
    ]
    print_table(("trial", found["metric"], *paths), rows)
    out.print(f"{found['complete']} trials finished, {found['pruned']} given up, {found['fail']} failed.")
    out.print("Compare them in reports/tuning/index.html.")
    settings = " ".join(found["settings"])
    if written:
        out.print(f"params.yaml has {settings}. `audioml plan` says what runs again.", markup=False, soft_wrap=True)
    else:
        out.print(f"The best is {settings}. Write it into params.yaml:", markup=False, soft_wrap=True)
        out.print("  audioml tune --report --write")


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
