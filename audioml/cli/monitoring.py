"""Commands that watch what is served: monitor, feedback."""

from __future__ import annotations

import datetime
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from audioml.cli._options import AsJson, Workspace
from audioml.cli._output import err, out, print_json, print_table
from audioml.errors import ParamsError
from audioml.pipeline.context import Context


def monitor(
    day: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="Day in UTC.", show_default="the newest in the log")
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="Days that are looked at together, up to that one.")] = 1,
    source: Annotated[
        Path | None, typer.Option("--input", metavar="FOLDER", help="Fresh audio, in place of the server's log.")
    ] = None,
    fail: Annotated[bool, typer.Option("--fail", help="End with status 1 on an alarm.")] = False,
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Compare what the champion hears and says with the clips it was made from, and retest it on labelled recordings.

    Writes reports/monitoring/DAY/index.html, metrics over time to MLflow, and gauges for Prometheus.

    Example: `audioml monitor --days 7`

    Example: `audioml monitor --input recordings/ --fail`
    """
    from audioml.monitoring import run

    if source is not None and not source.is_dir():
        raise ParamsError(f"--input is {source}, which is no folder. Give a folder of recordings.")
    if source is not None and days != 1:
        raise ParamsError("--days goes with the server's log; a folder (--input) is looked at as a whole.")
    found = run.monitor(Context.load(workspace), _parse_day(day), days, source)
    if as_json:
        print_json(found)
    else:
        _print_found(found)
    if fail and found["alarm"]:
        raise typer.Exit(1)


def feedback(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE.csv", help="Columns label, and request_id (with file) or sha256.", exists=True),
    ],
    workspace: Workspace = Path(),
    as_json: AsJson = False,
) -> None:
    """Label recordings that the server has answered; `audioml monitor` retests the champion on them.

    Of two labels of one recording the later counts. Rows of which the log knows no recording are named.

    Example: `audioml feedback labels.csv`
    """
    from audioml.monitoring.feedback import MAX_NAMED, import_labels

    done = import_labels(Context.load(workspace).state, file)
    if as_json:
        print_json(asdict(done))
    else:
        out.print(f"{file}: {done.labels:,} labels kept, {len(done.rejected):,} rows not used", markup=False)
        for reason in done.rejected[:MAX_NAMED]:
            err.print(reason, markup=False, soft_wrap=True)
        if (more := len(done.rejected) - MAX_NAMED) > 0:
            err.print(f"and {more:,} more", markup=False)
    if not done.labels:
        raise typer.Exit(1)


def _print_found(found: dict[str, Any]) -> None:
    rows = []
    for name, column in found["columns"].items():
        state = "not tested" if column["skipped"] else "DRIFTED" if column["drifted"] else "as before"
        difference = "" if column["skipped"] else f"{column['effect']:.3f} (needed {column['needed']:.3f})"
        rows.append((name, state, column["reference"], column["now"] or column["skipped"], difference))
    days = found["days"][-1] if len(found["days"]) == 1 else f"{found['days'][0]} to {found['days'][-1]}"
    heard = f"{found['model']} version {found['version']}, {days}: {found['recordings']:,} recordings"
    out.print(heard, markup=False, soft_wrap=True)
    print_table(("column", "state", "reference", "now", "difference"), rows)
    retested = found["retest"]
    if judged := retested["found"]:
        out.print(
            f"{retested['metric']} on {retested['n']:,} labelled recordings: {judged['value']:.4g} "
            f"({judged['low']:.4g} to {judged['high']:.4g}); registered: {_figure(retested['registered'])}",
            markup=False,
            soft_wrap=True,
        )
    else:
        out.print(f"Not retested: {retested['skipped']}", markup=False, soft_wrap=True)
    for text in (found["left_out"], found["summary"], f"Report: {found['report']}"):
        if text:
            out.print(text, markup=False, soft_wrap=True)


def _parse_day(text: str | None) -> datetime.date | None:
    if text is None:
        return None
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise ParamsError(f"--day is {text!r}, but must be a date such as 2026-11-22.") from None


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"
