"""Commands on lineage: where a prediction or a model comes from, what came of a recording, and withdrawing some."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audioml.cli._options import AsJson, Jobs, Workspace
from audioml.cli._output import out, print_json, print_table
from audioml.pipeline.context import Context

if TYPE_CHECKING:
    from rich.tree import Tree

    from audioml.lineage.node import Node

MOST = 10
"""Recordings, shards or params of one list that the tree names."""
LINE = 100


def lineage(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="REF",
            help="A request's id in the log of predictions; a model (NAME, NAME@ALIAS, NAME/3); a recording: its path "
            "in the manifest, a file, or the SHA-256 of a clip (8 digits or more).",
        ),
    ],
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also draw it as a page that needs no other host.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="Entries that the tree and the page name of a long list.")] = MOST,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Show the lineage of a prediction or a model back to its recordings, or of a recording on to its models.

    `--json` names every recording.

    Example: `audioml lineage digits@champion`

    Example: `audioml lineage 3/jackson_41.wav --html lineage.html`
    """
    from audioml.lineage.node import summarize
    from audioml.lineage.page import render_page
    from audioml.lineage.trace import trace
    from audioml.store.files import write_text

    node = trace(Context.load(workspace), reference)
    if html is not None:
        write_text(html, render_page(node, most))
    if as_json:
        print_json(node.as_dict())
        return
    out.print(_draw(summarize(node, most)))
    if html is not None:
        out.print(f"Drawn: {html}", markup=False, soft_wrap=True)


def forget(
    references: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE]...",
            help="Recordings: paths in the manifest, files, or the SHA-256 of a clip.",
            show_default=False,
        ),
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="COLUMN=VALUE", help="All recordings with this value, such as speaker=ann.")
    ] = None,
    by: Annotated[str, typer.Option(help="Who wants it; kept in the list.")] = "",
    reason: Annotated[str, typer.Option(help="Why; kept in the list.")] = "",
    jobs: Jobs = None,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Withdraw recordings: out of the data set for good, wherever they lie; models that met them are listed and marked.

    Example: `audioml forget 3/jackson_41.wav --by ann --reason "consent withdrawn"`

    Example: `audioml forget --group speaker=jackson --by ann --reason "consent withdrawn"`
    """
    from audioml.orchestration.forget import forget as forget_recordings

    told = forget_recordings(Context.load(workspace), references or [], group, by=by, reason=reason, jobs=jobs)
    if as_json:
        print_json(told)
        return
    _print_forgotten(told)


def _print_forgotten(told: dict[str, Any]) -> None:
    def say(text: str) -> None:
        out.print(text, markup=False, soft_wrap=True)

    for entry in told["withdrawn"][:MOST]:
        say(f"Withdrawn: {entry['path']} {entry['sha256'][:12]}")
    if more := len(told["withdrawn"]) - MOST:
        say(f"and {more} more") if more > 0 else None
    if told["already_withdrawn"]:
        say(f"Withdrawn before: {told['already_withdrawn']}")
    for path in told["unhashed"]:
        say(f"{path} cannot be read at the source now: it stays out only as long as it is cut into the same clips.")
    if dataset := told["dataset"]:
        say(f"The data set has {dataset['clips']} clips in {dataset['shards']} shards now.")
    if shards := told["feature_shards"]:
        say(f"Feature shards made anew: {shards['made']}; untouched: {shards['kept']}.")
    if told["audio_removed_from_log"]:
        say(f"Audio removed from {told['audio_removed_from_log']} rows of the log of predictions.")
    if models := told["models"]:
        out.print("\nModels that met them, marked in the registry:")
        print_table(("model", "aliases", "trained on", "tuned by", "tested on", "by way of"), [_row(m) for m in models])
    else:
        out.print("\nNo model of the registry has met them.")
    out.print("\nWhat stays, and how it goes:")
    print_table(("where", "what", "how it goes"), [(r["where"], r["what"], r["remedy"]) for r in told["remains"]])
    out.print("\nNext:")
    for command in told["next"]:
        say(f"  {command}")


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    counts = model["recordings"]
    numbers = [str(counts[split] or "") for split in ("train", "validation", "test")]
    name = f"{model['model']}/{model['version']}"
    return (name, ", ".join(model["aliases"]), *numbers, " < ".join(model["via"]))


def _draw(node: Node) -> Tree:
    from rich.tree import Tree

    tree = Tree(_label(node), highlight=False)
    _add_children(tree, node)
    return tree


def _add_children(tree: Tree, node: Node) -> None:
    for child in node.children:
        _add_children(tree.add(_label(child)), child)


def _label(node: Node) -> Any:
    """Return one line: what it is, its name, and what is known of it."""
    from rich.text import Text

    from audioml.lineage.words import describe_facts

    label = Text("" if node.kind == "more" else f"{node.kind} ", style="dim")
    label.append(node.name, style="not dim bold" if node.kind in ("prediction", "model") else "not dim")
    if facts := describe_facts(node):
        label.append(f"  {facts}", style="dim")
    return label
