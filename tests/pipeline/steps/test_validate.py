"""The step around the checks: files, warnings, and the error that stops the run."""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd
import pytest
import yaml

from audioml.errors import DatasetError, ParamsError, StepError
from audioml.params import parse_params
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
from audioml.store.files import read_json
from audioml.store.manifest import MANIFEST, MANIFEST_TYPES, write_manifest

STEP = find_step("validate")


@pytest.fixture
def make_ctx(tmp_path, minimal_params):
    def make(clips: int = 20, **validate) -> Context:
        rows = []
        for i in range(clips):
            values = dict.fromkeys(MANIFEST_TYPES, 0)
            text = dict.fromkeys(("shard", "format", "subtype"), "x")
            values |= {"clip_id": f"{i:064x}", "path": f"{i:02}.wav", "label": "ab"[i % 2], **text}
            values |= {"duration_s": 1.0, "sample_rate": 16000, "silent_share": 0.97 if i < 3 else 0.1}
            rows.append(values)
        write_manifest(tmp_path / MANIFEST, pd.DataFrame(rows))
        raw = minimal_params | {"validate": validate}
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
        return Context(tmp_path, parse_params(raw))

    return make


def test_a_warning_is_logged_and_stops_nothing(make_ctx, caplog):
    ctx = make_ctx()
    with caplog.at_level(logging.WARNING, "audioml"):
        summary = run_step(ctx, STEP)
    assert summary["clips"] == 20
    assert summary["labels"] == 2
    (warning,) = summary["warnings"]
    assert warning.startswith("- silence: At least 98 % of all clips have at most 95 % of their frames below -60 dBFS.")
    assert "Observed: 3 of 20 clips (15 %) do not" in warning
    assert "For example: 00.wav: 97 % of frames silent;" in warning
    assert warning in caplog.text
    assert read_json(ctx.path("reports/validation.json"))["success"]
    assert (ctx.path("reports/validation") / "index.html").is_file()


def test_a_failure_stops_the_run_after_the_reports_are_written(make_ctx):
    ctx = make_ctx(labels=["a"], min_clips_per_label=11, severity={"silence": "off"})
    with pytest.raises(DatasetError) as caught:
        run_step(ctx, STEP)
    message = str(caught.value)
    assert message.startswith("2 of 10 checks failed on the 20 clips of data/manifest.parquet:\n- labels: ")
    assert "Every label is one of a. Observed: 10 of 20 clips (50 %) do not. For example: 01.wav: label 'b';" in message
    assert "- clips_per_label: Every label has at least 11 clips. Observed: 2 of 2 labels (100 %) do not" in message
    assert "reports/validation/index.html" in message
    assert not read_json(ctx.path("reports/validation.json"))["success"]
    assert "2 of 10 checks failed" in (ctx.path("reports/validation") / "index.html").read_text()


def test_an_unknown_check_leaves_what_stood_there(make_ctx):
    run_step(make_ctx(), STEP)
    ctx = make_ctx(severity={"silense": "off"})
    with pytest.raises(ParamsError, match="Did you mean 'silence'"):
        run_step(ctx, STEP)
    assert read_json(ctx.path("reports/validation.json"))["success"]
    assert [path.name for path in sorted(Path(ctx.path("reports")).iterdir())] == ["validation", "validation.json"]


def test_no_manifest(tmp_path, minimal_params):
    with pytest.raises(StepError, match=r"data/manifest.parquet is missing .* audioml run ingest"):
        run_step(Context(tmp_path, parse_params(minimal_params)), STEP)
