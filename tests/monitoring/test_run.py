"""Runs of monitoring against a real registry."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlflow
import pyarrow.parquet as pq
import pytest
from prometheus_client.parser import text_string_to_metric_families

from audioml.errors import RegistryError, SourceError
from audioml.monitoring import run
from audioml.monitoring.feedback import import_labels
from audioml.monitoring.run import monitor
from audioml.pipeline.context import Context
from audioml.serving.prediction_log import FOLDER

from .conftest import TODAY, make_tones

LogClips = Callable[..., None]


def gauges(ctx: Context, source: str = "log") -> dict[tuple[str, str], float]:
    text = (ctx.state / "monitoring" / f"audioml_{source}.prom").read_text()
    return {
        (sample.name, sample.labels.get("column", "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_unchanged_audio_raises_no_alarm(workspace: Context, log_clips: LogClips) -> None:
    log_clips(make_tones(150, 3))
    found = monitor(workspace)
    assert (found["alarm"], found["drifted"], found["recordings"], found["summary"]) == (False, [], 150, "No drift.")
    assert not any(column["skipped"] for column in found["columns"].values())
    assert found["retest"]["skipped"] == "0 labelled recordings; 50 are needed"
    page = workspace.path(found["report"])
    assert page == workspace.path(f"reports/monitoring/{TODAY}/index.html")
    assert "No drift" in page.read_text()
    assert json.loads((page.parent / "metrics.json").read_text()) == found
    assert gauges(workspace)["audioml_monitor_recordings", ""] == 150
    assert gauges(workspace)["audioml_drift_alarm", "rms_dbfs"] == 0


def test_shifted_audio_is_reported_in_one_run(workspace: Context, log_clips: LogClips) -> None:
    log_clips(make_tones(150, 3, level=0.3))
    found = monitor(workspace)
    assert found["alarm"]
    assert found["drifted"][0] == "rms_dbfs"
    column = found["columns"]["rms_dbfs"]
    assert column["p_value"] < 1e-3
    assert column["effect"] > 0.4
    assert f"Loudness drifted: {column['reference']} to {column['now']}." in found["summary"]
    assert gauges(workspace)["audioml_drift_alarm", "rms_dbfs"] == 1
    page = workspace.path(found["report"]).read_text()
    assert page.index("Loudness") < page.index("Duration")
    assert "<script" not in page


def test_mlflow_has_a_step_a_day_in_one_run(workspace: Context, log_clips: LogClips) -> None:
    # Days that no other test looks at.
    first, second = (TODAY - datetime.timedelta(days=back) for back in (11, 10))
    log_clips(make_tones(150, 3), first)
    log_clips(make_tones(150, 4, level=0.3), second)
    for day in (first, second):
        monitor(workspace, day)
    client = mlflow.MlflowClient()
    (experiment,) = [e for e in client.search_experiments() if e.name == "tones"]
    (found,) = client.search_runs([experiment.experiment_id], "tags.`audioml.monitors` = 'tones'")
    assert found.info.run_name == "monitoring of tones"
    history = client.get_metric_history(found.info.run_id, "log_alarm/rms_dbfs")
    last = {metric.step: metric.value for metric in history}
    epoch = datetime.date(1970, 1, 1)
    assert (last[(first - epoch).days], last[(second - epoch).days]) == (0.0, 1.0)
    reports = [item.path for item in client.list_artifacts(found.info.run_id, "monitoring")]
    assert {f"monitoring/{first}", f"monitoring/{second}"} <= set(reports)


def test_days_are_looked_at_together(workspace: Context, log_clips: LogClips) -> None:
    log_clips(make_tones(60, 3), TODAY - datetime.timedelta(days=2))
    log_clips(make_tones(60, 4))
    alone = monitor(workspace)
    assert alone["summary"] == "60 recordings are too few to tell."
    assert not alone["alarm"]
    together = monitor(workspace, days=3)
    assert together["recordings"] == 120
    assert len(together["days"]) == 3
    assert together["summary"] == "No drift."


def test_rows_of_other_versions_are_left_out(workspace: Context, log_clips: LogClips) -> None:
    log_clips(make_tones(120, 3))
    log_clips(make_tones(130, 4, level=0.1), version=2)
    found = monitor(workspace)
    assert (found["recordings"], found["alarm"]) == (120, False)
    assert found["left_out"] == "Left out: recordings that other versions answered (130)."


def test_a_log_of_an_earlier_version_is_still_compared(workspace: Context, log_clips: LogClips) -> None:
    log_clips(make_tones(150, 3), measured=False)
    for path in (workspace.state / FOLDER).rglob("*.parquet"):
        with path.open("rb") as file:
            table = pq.read_table(file)
        pq.write_table(table.select(table.column_names[:15]), path)
    log_clips(make_tones(1, 4))
    found = monitor(workspace)
    assert found["recordings"] == 151
    assert not found["alarm"]
    assert found["columns"]["rms_dbfs"]["skipped"] == "1 recordings have it; 100 are needed"
    tested = {name for name, column in found["columns"].items() if not column["skipped"]}
    assert tested == {"duration_s", "sample_rate", "confidence", "class"}


def test_a_folder_of_fresh_audio(workspace: Context, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    (fresh / "deep").mkdir(parents=True)
    for i, clip in enumerate(make_tones(120, 3, noise=0.1)):
        (fresh / "deep" / f"{i}.wav").write_bytes(clip)
    (fresh / "notes.wav").write_text("no audio")
    found = monitor(workspace, source=fresh)
    assert (found["source"], found["recordings"]) == ("input", 120)
    assert "bandwidth_hz" in found["drifted"]
    assert found["left_out"] == "Left out: files that cannot be read as audio (1)."
    assert found["report"] == f"reports/monitoring/{TODAY}-input/index.html"
    assert gauges(workspace, "input")["audioml_drift_alarm", "bandwidth_hz"] == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no recordings"):
        monitor(workspace, source=tmp_path / "empty")


def test_labels_that_say_it_is_worse_are_an_alarm(workspace: Context, log_clips: LogClips, tmp_path: Path) -> None:
    log_clips(make_tones(150, 3))
    right = [("low" if i % 2 else "high") for i in range(150)]
    for n_wrong, alarm in ((0, False), (30, True)):
        given = ["low" if i < n_wrong else label for i, label in enumerate(right)]
        lines = [f"r{i},{label}" for i, label in enumerate(given)]
        (tmp_path / "labels.csv").write_text("\n".join(["request_id,label", *lines]))
        assert import_labels(workspace.state, tmp_path / "labels.csv").labels == 150
        found = monitor(workspace)
        assert found["alarm"] is alarm
        assert found["drifted"] == []
    judged = found["retest"]["found"]
    # Half of the first 30 were high.
    assert judged["value"] == pytest.approx(0.9)
    assert judged["high"] < 0.97
    assert found["summary"].endswith("but 0.99 was registered.")
    assert "Worse on labels" in workspace.path(found["report"]).read_text()
    assert gauges(workspace)["audioml_retest", ""] == pytest.approx(0.9)


def test_what_is_missing_is_said(workspace: Context, log_clips: LogClips, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SourceError, match="There is no log of predictions"):
        monitor(workspace)
    log_clips(make_tones(5, 3))
    monkeypatch.setattr(run, "read_reference", lambda folder: None)
    with pytest.raises(RegistryError, match="carries no reference"):
        monitor(workspace)
    stranger = replace(workspace, params=workspace.params.model_copy(update={"name": "nobody"}))
    with pytest.raises(RegistryError, match="No model is called 'nobody'"):
        monitor(stranger)
