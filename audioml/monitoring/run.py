"""One run of monitoring: the champion's recordings of some days, or a folder of fresh audio, beside its reference."""

from __future__ import annotations

import datetime
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audioml.errors import RegistryError, SourceError
from audioml.inference.predictor import Predictor
from audioml.inference.reference import read_reference
from audioml.monitoring.columns import take_samples
from audioml.monitoring.drift import Finding, find_drift
from audioml.monitoring.feedback import join_labels, read_labels
from audioml.monitoring.gauges import write_gauges
from audioml.monitoring.report import Watch, render_watch
from audioml.monitoring.retest import Retest, retest
from audioml.monitoring.rows import Rows, list_days, rows_of_folder, rows_of_log
from audioml.registry.logged_models import fetch_package
from audioml.registry.monitoring_runs import log_monitoring
from audioml.registry.package import ARTIFACTS
from audioml.registry.tracking import tracking
from audioml.registry.versions import RegisteredVersion, resolve
from audioml.registry.workspace import Workspace
from audioml.serving.prediction_log import FOLDER as LOG_FOLDER
from audioml.store.files import write_folder_atomic, write_json

if TYPE_CHECKING:
    import pandas as pd

REPORTS, PAGE, METRICS = "reports/monitoring", "index.html", "metrics.json"
LOG, INPUT = "log", "input"


def monitor(
    ctx: Workspace, day: datetime.date | None = None, days: int = 1, source: Path | None = None
) -> dict[str, Any]:
    """Look at what the champion of the workspace's model heard and said; write report, metrics and gauges.

    Parameters
    ----------
    ctx
        The workspace, whose state holds the log of predictions.
    day
        The last day that is looked at, in UTC; None takes the newest one in the log, or today for a folder.
    days
        Looked at together, up to that one.
    source
        Folder of fresh audio, which the champion answers now; None takes the log.

    Returns
    -------
    dict
        JSON values, as in ``metrics.json``: ``alarm``, ``summary`` (in words), ``columns``, ``retest`` and the rest.

    Raises
    ------
    RegistryError
        When there is no champion, or its package carries no reference.
    SourceError
        When the log has no day, or the folder no recordings.
    """
    days_there = list_days(ctx.state)
    if day is None:
        day = _today() if source else _newest(ctx.state, days_there)
    chosen = [day - datetime.timedelta(days=back) for back in range(days)][::-1]
    with tracking(ctx):
        version = resolve(ctx)
        folder = fetch_package(ctx.state, version.uri, version.package_digest) / ARTIFACTS
        reference = read_reference(folder)
        if reference is None:
            raise RegistryError(
                f"Version {version.version} of {version.name!r} carries no reference to compare with: it was packaged "
                "by an earlier version of audioml. Train and register again: audioml run train"
            )
        predictor = Predictor.load(folder)
        own = rows_of_folder(source, predictor) if source else _rows_of_log(ctx, chosen, version)
        retested = _retest(ctx, day, predictor, version)
        return _write(ctx, chosen, source, version, reference, own, retested)


def _write(
    ctx: Workspace,
    days: list[datetime.date],
    source: Path | None,
    version: RegisteredVersion,
    reference: pd.DataFrame,
    own: Rows,
    retested: Retest,
) -> dict[str, Any]:
    params, kind, day = ctx.params.monitor, INPUT if source else LOG, days[-1]
    samples = take_samples(reference, own.table)
    findings = find_drift(samples, params.min_rows, params.confidence, params.min_effect)
    watch = Watch(
        model=version.name,
        version=version.version,
        source=_describe_source(days, source),
        n_rows=len(own.table),
        left_out=_describe_rest(own, source),
        findings=findings,
        retested=retested,
        confidence=params.confidence,
        retest_confidence=ctx.params.evaluate.confidence,
        max_loss=params.max_loss,
    )
    report = ctx.path(REPORTS) / (f"{day}-{INPUT}" if source else str(day))
    facts = _describe(watch, days, kind, str(report.relative_to(ctx.workspace) / PAGE))
    with write_folder_atomic(report) as temporary:
        (temporary / PAGE).write_text(render_watch(watch, samples), encoding="utf-8")
        write_json(temporary / METRICS, facts)
    write_gauges(ctx.state, kind, version.name, version.version, day, watch.n_rows, findings, retested)
    tags = {"audioml.day": str(day), "audioml.version": str(version.version), "audioml.alarm": str(facts["alarm"])}
    log_monitoring(ctx, day, _flatten(watch, kind), tags, report)
    return facts


def _rows_of_log(ctx: Workspace, days: list[datetime.date], version: RegisteredVersion) -> Rows:
    return rows_of_log(ctx.state, days, version.name, version.version)


def _retest(ctx: Workspace, day: datetime.date, predictor: Predictor, version: RegisteredVersion) -> Retest:
    """Judge the version by all labelled recordings of the days before, and of the day itself."""
    params = ctx.params.monitor
    back = [day - datetime.timedelta(days=i) for i in range(params.label_days)]
    labels = read_labels(ctx.state)
    # Without labels there is no need to read the log of all these days.
    rows = rows_of_log(ctx.state, back if len(labels) else [], version.name, version.version)
    return retest(
        predictor,
        version.metrics,
        join_labels(rows.table, labels),
        min_labels=params.min_labels,
        max_loss=params.max_loss,
        confidence=ctx.params.evaluate.confidence,
        seed=ctx.params.seed,
    )


def _newest(state: Path, days: list[datetime.date]) -> datetime.date:
    if not days:
        raise SourceError(
            f"There is no log of predictions in {state / LOG_FOLDER}. Serve the model (audioml serve), or look at a "
            "folder of fresh audio: audioml monitor --input FOLDER"
        )
    return days[-1]


def _describe(watch: Watch, days: list[datetime.date], kind: str, report: str) -> dict[str, Any]:
    """Return what was found as JSON values."""
    retested = watch.retested
    return {
        "model": watch.model,
        "version": watch.version,
        "source": kind,
        "days": [str(day) for day in days],
        "recordings": watch.n_rows,
        "left_out": watch.left_out,
        "alarm": bool(watch.drifted or retested.failed),
        "drifted": [finding.column.name for finding in watch.drifted],
        "summary": summarize(watch),
        "columns": {finding.column.name: _describe_finding(finding) for finding in watch.findings},
        "retest": asdict(retested),
        "report": report,
    }


def summarize(watch: Watch) -> str:
    """Return what was found in words."""
    retested = watch.retested
    said = [f"{f.column.title} drifted: {f.reference} to {f.now}." for f in watch.drifted]
    if not watch.drifted:
        said.append("No drift." if watch.tested else f"{watch.n_rows} recordings are too few to tell.")
    if retested.failed:
        assert retested.found is not None, "it was judged"
        said.append(
            f"{retested.metric} on {retested.n} labelled recordings is {retested.found.value:.4g} (at most "
            f"{retested.found.high:.4g}), but {retested.registered:.4g} was registered."
            if retested.found.value <= (retested.registered or 0)
            else f"{retested.metric} on {retested.n} labelled recordings is {retested.found.value:.4g} (at least "
            f"{retested.found.low:.4g}), but {retested.registered:.4g} was registered."
        )
    return " ".join(said)


def _describe_finding(finding: Finding) -> dict[str, Any]:
    numbers = {name: getattr(finding, name) for name in ("effect", "needed", "p_value")}
    return {
        "drifted": finding.drifted,
        **{name: None if math.isnan(value) else round(value, 6) for name, value in numbers.items()},
        "n_reference": finding.n_reference,
        "n_now": finding.n_now,
        "reference": finding.reference,
        "now": finding.now,
        "skipped": finding.skipped,
    }


def _flatten(watch: Watch, kind: str) -> dict[str, float]:
    """Return the metrics that MLflow keeps over time."""
    metrics = {f"{kind}/recordings": float(watch.n_rows), f"{kind}/drifted_columns": float(len(watch.drifted))}
    for finding in watch.findings:
        if not finding.skipped:
            metrics[f"{kind}_drift/{finding.column.name}"] = finding.effect
            metrics[f"{kind}_alarm/{finding.column.name}"] = float(finding.drifted)
    if found := watch.retested.found:
        name = f"retest/{watch.retested.metric}"
        metrics |= {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}
        metrics["retest/labelled"] = float(watch.retested.n)
    return metrics


def _describe_source(days: list[datetime.date], source: Path | None) -> str:
    if source:
        return f"recordings of {source.name}, {days[-1]}"
    return f"{days[0]} to {days[-1]}" if len(days) > 1 else str(days[0])


def _describe_rest(own: Rows, source: Path | None) -> str:
    if not own.left_out:
        return ""
    what = "files that cannot be read as audio" if source else "recordings that other versions answered"
    return f"Left out: {what} ({own.left_out:,})."


def _today() -> datetime.date:
    return datetime.datetime.now(datetime.UTC).date()
