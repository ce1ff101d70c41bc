"""What monitoring found, for Prometheus: a file for the textfile collector of its node exporter."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from audioml.monitoring.drift import Finding
from audioml.monitoring.retest import Retest
from audioml.store.files import write_atomic

FOLDER = "monitoring"
"""In the state folder."""


def write_gauges(
    state: Path,
    source: str,
    model: str,
    version: int,
    day: datetime.date,
    n_rows: int,
    findings: Sequence[Finding],
    retested: Retest,
) -> Path:
    """Write the gauges of one source, `log` or `input`, atomically; return the file."""
    registry = CollectorRegistry()
    labels = {"source": source, "model": model, "version": str(version)}

    def set_gauge(name: str, text: str, value: float, **more: str) -> None:
        gauge = gauges.get(name) or Gauge(name, text, [*labels, *more], registry=registry)
        gauges[name] = gauge
        gauge.labels(**labels, **more).set(value)

    gauges: dict[str, Gauge] = {}
    start = datetime.datetime.combine(day, datetime.time(), datetime.UTC)
    set_gauge("audioml_monitor_day_seconds", "Start of the day that was looked at last", start.timestamp())
    set_gauge("audioml_monitor_recordings", "Recordings that were compared with the reference", n_rows)
    for finding in findings:
        if not finding.skipped:
            name = finding.column.name
            set_gauge("audioml_drift", "Difference from the reference, from 0 to 1", finding.effect, column=name)
            set_gauge("audioml_drift_alarm", "1 where it is an alarm", finding.drifted, column=name)
    if retested.found:
        metric = retested.metric
        set_gauge("audioml_retest", "Primary metric on labelled recordings", retested.found.value, metric=metric)
        set_gauge("audioml_retest_alarm", "1 where it is an alarm", retested.failed, metric=metric)
    path = state / FOLDER / f"audioml_{source}.prom"
    with write_atomic(path) as temporary:
        temporary.write_bytes(generate_latest(registry))
    return path
