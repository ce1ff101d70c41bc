"""Commands on the registered model of a workspace: `audioml models list`, `compare`, `promote`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from audioml.cli._options import AsJson, Workspace
from audioml.cli._output import out, print_json, print_table
from audioml.pipeline.context import Context

app = typer.Typer(
    help="List, compare and promote the versions of the workspace's model.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
Version = Annotated[int | None, typer.Argument(help="Number of a version.", show_default="the challenger")]


@app.command("list")
def list_versions(workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """Show all versions, newest first: aliases, data, and who promoted them.

    Example: `audioml models list`
    """
    from audioml.registry.promotion import list_candidates

    candidates = list_candidates(Context.load(workspace))
    if as_json:
        print_json([asdict(candidate) for candidate in candidates])
        return
    rows = [
        (str(c.version), ", ".join(c.aliases), c.created, c.dataset_digest[:8], _describe_promotions(c.promotions))
        for c in candidates
    ]
    print_table(("version", "aliases", "registered", "dataset", "promoted"), rows)


@app.command()
def compare(version: Version = None, workspace: Workspace = Path(), as_json: AsJson = False) -> None:
    """Compare the challenger, or another version, with the champion.

    Example: `audioml models compare`
    """
    from audioml.registry import promotion

    found = promotion.compare(Context.load(workspace), version)
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
    out.print(found["reason"], markup=False, soft_wrap=True)


@app.command()
def promote(
    by: Annotated[str, typer.Option(help="Who wants it; kept with the version.")],
    reason: Annotated[str, typer.Option(help="Why; kept with the version.")],
    version: Version = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also if it is worse than the champion, or can't be compared with it.")
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


def _print_paired(paired: dict[str, Any]) -> None:
    """Say which clips were gained and lost, by their paths."""
    for name in ("gained", "lost"):
        if paths := paired[name]:
            more = paired[f"n_{name}"] - len(paths)
            shown = ", ".join(paths) + (f" and {more} more" if more else "")
            out.print(f"{name.capitalize()}: {shown}", markup=False, soft_wrap=True)


def _describe_promotions(promotions: tuple[dict[str, Any], ...]) -> str:
    return "\n".join(f"{p['time'][:19]} by {p['by']}: {p['reason']}" for p in promotions)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
