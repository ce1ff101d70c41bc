"""Commands on the registered model of a workspace: list and compare its versions, and decide which is champion."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from audioml.cli._options import AsJson, Workspace
from audioml.cli._output import out, print_json, print_table
from audioml.pipeline.context import Context

app = typer.Typer(
    help="List and compare the versions of the workspace's model, and decide which is champion.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
By = Annotated[str, typer.Option(help="Who wants it; kept in the history.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the history.")]
Version = Annotated[int | None, typer.Argument(help="Number of a version.", show_default="the challenger")]


@app.command("list")
def list_versions(workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """Show all versions, newest first: aliases, data, and what was decided about them.

    Example: `audioml models list`
    """
    from audioml.registry.promotion import list_candidates

    candidates = list_candidates(Context.load(workspace))
    if as_json:
        print_json([asdict(candidate) for candidate in candidates])
        return
    columns = {
        "version": [str(c.version) for c in candidates],
        "aliases": [", ".join(c.aliases) for c in candidates],
        "registered": [c.created for c in candidates],
        "dataset": [c.dataset_digest[:8] for c in candidates],
        "withdrawn": [_describe_withdrawn(c.withdrawn) for c in candidates],
        "decided": [_describe_events(c.history) for c in candidates],
    }
    if not any(columns["withdrawn"]):
        del columns["withdrawn"]
    print_table(tuple(columns), list(zip(*columns.values(), strict=True)))


@app.command()
def compare(version: Version = None, workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """Compare the challenger, or another version, with the champion.

    Example: `audioml models compare`
    """
    from audioml.registry import comparison

    found = comparison.compare(Context.load(workspace), version)
    if as_json:
        print_json(found)
        return
    challenger, champion = found["challenger"], found["champion"]
    if challenger and champion and challenger["version"] != champion["version"]:
        print_table(
            ("metric", f"version {challenger['version']}", f"champion (version {champion['version']})"),
            [(name, *map(_figure, values)) for name, *values in found["metrics"]],
        )
        if paired := found["paired"]:
            _print_paired(paired)
        elif found["not_paired"]:
            out.print(f"Not compared on the same clips: {found['not_paired']}", markup=False, soft_wrap=True)
    _print_gates(found["gates"])
    out.print(found["reason"], markup=False, soft_wrap=True)


@app.command()
def show(version: Version = None, workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """Show one version: what it was made from, its metrics, its gates, and what was decided about it.

    Example: `audioml models show 3`
    """
    from audioml.registry import promotion

    found = promotion.show(Context.load(workspace), version)
    if as_json:
        print_json(found)
        return
    rows = [(key.replace("_", " "), str(value)) for key, value in found["about"].items() if value not in (None, "")]
    print_table((f"{found['model']} version {found['version']}", ""), rows)
    print_table(("metric", "value"), [(name, _figure(value)) for name, value in found["metrics"].items()])
    _print_gates(found["gates"])
    for line in _describe_events(tuple(found["history"])).splitlines():
        out.print(line, markup=False, soft_wrap=True)


@app.command()
def promote(
    by: By,
    reason: Reason,
    version: Version = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also if it is worse than the champion, was rejected or can't be compared.")
    ] = False,
    instead_of: Annotated[
        int | None, typer.Option(help="Only if this version is champion now; 0 for none.", show_default="any")
    ] = None,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Make the challenger, or another version, the champion.

    Example: `audioml models promote --by ann --reason "hears the new microphones"`
    """
    from audioml.registry import promotion

    answer = promotion.promote(
        Context.load(workspace), version, by=by, reason=reason, force=force, instead_of=instead_of
    )
    if as_json:
        print_json(answer)
        return
    out.print(answer["reason"], markup=False, soft_wrap=True)
    if answer["promoted"]:
        out.print(f"Version {answer['challenger']['version']} of {answer['model']} is champion now.", markup=False)


@app.command()
def reject(by: By, reason: Reason, version: Version = None, workspace: Workspace = Path()) -> None:
    """Say that the challenger, or another version, shall not become champion.

    Example: `audioml models reject --by ann --reason "does not hear children"`
    """
    from audioml.registry import promotion

    event = promotion.reject(Context.load(workspace), version, by=by, reason=reason)
    out.print(f"Version {event.version} is rejected.", markup=False)


@app.command()
def rollback(
    by: By,
    reason: Reason,
    to: Annotated[
        int | None, typer.Option(help="Number of an earlier champion.", show_default="the one before")
    ] = None,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Make the champion before the present one champion again.

    Running servers follow without a failed request. The version that is left is not promoted again without `--force`.

    Example: `audioml models rollback --by ann --reason "misses alarms at night"`
    """
    from audioml.registry import promotion

    event = promotion.rollback(Context.load(workspace), to, by=by, reason=reason)
    if as_json:
        print_json(asdict(event))
        return
    out.print(f"Version {event.version} is champion again, in place of version {event.champion_before}.", markup=False)


@app.command()
def history(workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """Show who made which version champion, when and why, oldest first.

    Example: `audioml models history`
    """
    from audioml.registry import promotion

    events = promotion.list_events(Context.load(workspace))
    if as_json:
        print_json([asdict(event) for event in events])
        return
    rows = [
        (
            event.time[:19],
            f"version {event.version} {event.action}{' by force' if event.forced else ''}",
            str(event.champion_before or ""),
            event.by,
            event.reason,
            event.outcome or "under way",
        )
        for event in events
    ]
    print_table(("time", "what", "champion before", "by", "why", "outcome"), rows)


def _print_gates(gates: list[dict[str, Any]]) -> None:
    """Say of each gate whether it is passed, and why or why not."""
    words = {True: "passed", False: "failed", None: "does not apply"}
    if gates:
        print_table(("gate", "", "what it says"), [(g["name"], words[g["passed"]], g["said"]) for g in gates])


def _print_paired(paired: dict[str, Any]) -> None:
    """Say which clips were gained and lost, by their paths."""
    for name in ("gained", "lost"):
        if paths := paired[name]:
            more = paired[f"n_{name}"] - len(paths)
            shown = ", ".join(paths) + (f" and {more} more" if more else "")
            out.print(f"{name.capitalize()}: {shown}", markup=False, soft_wrap=True)


def _describe_withdrawn(mark: dict[str, Any] | None) -> str:
    return "" if mark is None else f"{mark['recordings']} ({mark['train']} trained on), {mark['time'][:10]}"


def _describe_events(events: tuple[dict[str, Any], ...]) -> str:
    return "\n".join(f"{e['time'][:19]} {e['action']} by {e['by']}: {e['reason']}" for e in events)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
