"""Commands that make a workspace and look after its files: init, render, check, compact."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from audioml.cli._options import AsJson, Jobs, Workspace
from audioml.cli._output import out, print_json, print_summary, print_table
from audioml.pipeline.context import Context


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The new workspace.")],
    data: Annotated[
        str | None, typer.Option(help="Folder of recordings, or a table (CSV, Parquet, JSON lines).")
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(
            help="folder, filename, table or events; or one that makes its clips: spoken_commands, "
            "spoken_digit_strings or spoken_sentences.",
            show_default="what fits SRC",
        ),
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Regular expression; its named groups in file names become columns.")
    ] = None,
    label: Annotated[str, typer.Option(help="Column that holds the label.")] = "label",
    partition: Annotated[
        str | None,
        typer.Option(help="Folders to ingest one by one: dates such as %Y-%m-%d or %Y/%m/%d, or * for any name."),
    ] = None,
    group: Annotated[str | None, typer.Option(help="Column whose values stay whole in one split.")] = None,
    test: Annotated[str | None, typer.Option(help="pandas query over the manifest that fixes the test set.")] = None,
    fold: Annotated[str | None, typer.Option(help="Column with the corpus's own folds.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model.", show_default="DIR's name")] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="Params for: digits, commands, sounds, speech, speakers or emotion.", show_default="none"),
    ] = None,
    storage_option: Annotated[
        list[str] | None, typer.Option(help="For a URL: KEY=VALUE for fsspec, such as endpoint_url=...; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    r"""Make a workspace for a folder of recordings, here or at a URL.

    Example: `audioml init birds --data ~/recordings`

    Example: `audioml init birds --data s3://bucket/recordings --storage-option endpoint_url=https://minio.example`

    Example: `audioml init calls --data /srv/landing --partition %Y-%m-%d`

    Example: `audioml init talk --preset speech`

    Example: `audioml init digits --data fsdd/recordings --layout filename --pattern
    '(?P<label>\d)_(?P<speaker>\w+)_(?P<index>\d+)' --test 'index < 5'`
    """
    from audioml.orchestration.workspace import Choices, create_workspace, parse_options

    choices = Choices(
        source=data,
        layout=layout,
        pattern=pattern,
        label=label,
        partition=partition,
        group=group,
        test=test,
        fold=fold,
        name=name,
        preset=preset,
        storage_options=parse_options(storage_option or []),
    )
    created = create_workspace(folder, choices)
    if as_json:
        print_json(created.as_dict())
        return
    for line in created.findings:
        out.print(line, markup=False)
    out.print(f"[bold green]Workspace[/] {created.folder}")
    out.print(
        f"Next: cd {folder} && dvc repro    (or: audioml up, then trigger the DAG {created.name})",
        markup=False,
        soft_wrap=True,
    )


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
        write_text(ctx.path("dvc.yaml"), dvc.render_workspace(ctx))
    dvc.check_rendering(ctx)
    out.print(f"{ctx.path('dvc.yaml')} is as rendered.", markup=False)


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
        print_json({"files": n_files, "findings": [asdict(finding) for finding in findings]})
    elif findings:
        print_table(("file", "problem"), [(finding.file, finding.problem) for finding in findings])
        out.print(
            f"{len(findings)} of {n_files} files are bad. Make them again with: {' && '.join(remedies(findings))}"
        )
    elif not n_files:
        out.print("There is nothing to check yet. Make it with: audioml run ingest")
    else:
        out.print(f"{n_files} files are {'what their checksums say' if deep else 'there and whole'}.")
    if findings:
        raise typer.Exit(1)


def compact(
    jobs: Jobs = None,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Pack small shards, and those that hold withdrawn clips, into full ones. No clip changes.

    Example: `audioml compact`
    """
    from audioml.orchestration.compact import compact as compact_workspace

    print_summary("compact", compact_workspace(Context.load(workspace), jobs), as_json)
