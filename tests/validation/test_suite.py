"""Checks that hold, checks that fail, and what is said of them."""

from __future__ import annotations

import json
import re
import socket
from html import unescape

import numpy as np
import pandas as pd
import pytest

from audioml.errors import ParamsError
from audioml.params import ValidateParams
from audioml.store.manifest import MANIFEST_TYPES
from audioml.validation.checks import build_checks
from audioml.validation.suite import count_labels, validate_manifest


@pytest.fixture
def manifest() -> pd.DataFrame:
    n = 60
    generator = np.random.default_rng(0)
    values = {
        "clip_id": [f"{i:064x}" for i in range(n)],
        "path": [f"zwölf töne/{i}.wav" for i in range(n)],
        "label": ["yes", "no", "maybe"] * 20,
        "shard": "a.parquet",
        "row": np.arange(n),
        "duration_s": generator.uniform(0.3, 2, n),
        "start_s": 0.0,
        "sample_rate": 16000,
        "channels": 1,
        "format": "WAV",
        "subtype": "PCM_16",
        "size_bytes": 32000,
        "peak_dbfs": -3.0,
        "rms_dbfs": -20.0,
        "dc_offset": 0.0,
        "clipped_share": 0.0,
        "silent_share": generator.uniform(0, 0.5, n),
        "speaker": generator.choice(["ann", "bob"], n),
    }
    return pd.DataFrame(values)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError(f"a connection was tried: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def check_of(summary, name):
    return next(check for check in summary["checks"] if check["name"] == name)


def test_a_good_manifest_passes(manifest, tmp_path, no_network, capfd):
    summary = validate_manifest(manifest, ValidateParams(labels=["yes", "no", "maybe"]), tmp_path / "docs")
    assert summary["success"]
    assert [check["name"] for check in summary["checks"] if not check["success"]] == []
    assert [check["name"] for check in summary["checks"]] == [
        "columns",
        "unique_clips",
        "labelled",
        "labels",
        "classes",
        "clips_per_label",
        "label_balance",
        "duration",
        "sample_rate",
        "clipping",
        "silence",
    ]
    assert summary["dataset"] == {
        "clips": 60,
        "hours": round(manifest["duration_s"].sum() / 3600, 4),
        "duration_s": {
            "min": round(manifest["duration_s"].min(), 4),
            "median": round(manifest["duration_s"].median(), 4),
            "max": round(manifest["duration_s"].max(), 4),
        },
        "labels": 3,
        "clips_per_label": {"maybe": 20, "no": 20, "yes": 20},
        "clips_per_sample_rate": {"16000": 60},
    }
    assert capfd.readouterr() == ("", "")


def test_the_summary_is_json_and_the_same_again(manifest, tmp_path):
    first = validate_manifest(manifest, ValidateParams(), tmp_path / "docs")
    assert json.loads(json.dumps(first)) == validate_manifest(manifest, ValidateParams(), tmp_path / "docs")


def break_unique(m):
    m.loc[5, "clip_id"] = m.loc[4, "clip_id"]


def break_labelled(m):
    m.loc[7, "label"] = None


def break_labels(m):
    m.loc[7:9, "label"] = "nope"


def break_classes(m):
    m["label"] = "yes"


def break_counts(m):
    m.loc[3, "label"] = "rare"


def break_balance(m):
    m["label"] = ["yes"] * 55 + ["no"] * 5


def break_duration(m):
    m.loc[[2, 4], "duration_s"] = [0.01, 9000.0]


def break_rate(m):
    m.loc[:29, "sample_rate"] = 4000


def break_clipping(m):
    m.loc[:9, "clipped_share"] = 0.25


def break_silence(m):
    m.loc[:9, "silent_share"] = 0.99


@pytest.mark.parametrize(
    ("spoil", "name", "severity", "expectation", "observed", "unexpected", "example"),
    [
        (break_unique, "unique_clips", "fail", "same bytes", "2 of 60 clips (3.33 %)", 2, "zwölf töne/4.wav"),
        (break_labelled, "labelled", "fail", "has a label", "1 of 60 clips (1.67 %)", 1, "zwölf töne/7.wav"),
        (break_labels, "labels", "fail", "yes, no, maybe", "3 of 60 clips (5 %)", 3, "zwölf töne/7.wav: label 'nope'"),
        (break_classes, "classes", "fail", "at least 2 different", "1 label: yes", 0, None),
        (break_counts, "clips_per_label", "fail", "at least 5 clips", "1 of 4 labels (25 %)", 1, "rare: 1 clip"),
        (break_balance, "label_balance", "warn", "10 times", "values range from 1 : 1 to 11 : 1", 1, "no: 11 : 1"),
        (break_duration, "duration", "fail", "0.05 to 3600 s", "0.01 s to 9000 s", 2, "zwölf töne/2.wav: 0.01 s"),
        (break_rate, "sample_rate", "fail", "8000 Hz", "30 of 60 clips (50 %)", 30, "zwölf töne/0.wav: 4000 Hz"),
        (break_clipping, "clipping", "warn", "5 % of their", "10 of 60", 10, "0.wav: 25 % of samples at full scale"),
        (break_silence, "silence", "warn", "-60 dBFS", "10 of 60", 10, "0.wav: 99 % of frames silent"),
    ],
)
def test_a_bad_manifest(manifest, tmp_path, spoil, name, severity, expectation, observed, unexpected, example):
    spoil(manifest)
    labels = ["yes", "no", "maybe"] if name == "labels" else None
    params = ValidateParams(labels=labels, max_label_imbalance=10 if name == "label_balance" else 20)
    summary = validate_manifest(manifest, params, tmp_path / "docs")
    check = check_of(summary, name)
    assert not check["success"]
    assert check["severity"] == severity
    assert summary["success"] == (severity == "warn")
    assert expectation in check["expectation"]
    assert observed in check["observed"]
    assert check["unexpected"] == unexpected
    assert len(check["examples"]) == min(unexpected, 5)
    assert example is None or example in check["examples"][0]


def test_a_few_clips_beside_the_bounds_are_borne(manifest, tmp_path):
    manifest.loc[0, "duration_s"] = 0.01
    check = check_of(validate_manifest(manifest, ValidateParams(mostly=0.95), tmp_path / "docs"), "duration")
    assert check["success"]
    assert check["unexpected"] == 1
    assert check["expectation"].startswith("At least 95 % of all clips last")


def test_missing_columns(manifest, tmp_path):
    summary = validate_manifest(manifest.drop(columns=["path", "sample_rate"]), ValidateParams(), tmp_path / "docs")
    assert check_of(summary, "columns")["observed"] == "missing: path, sample_rate"
    assert check_of(summary, "sample_rate")["observed"] == "the column sample_rate is missing"
    assert not summary["success"]


def test_a_label_without_clips(manifest, tmp_path):
    summary = validate_manifest(manifest, ValidateParams(labels=["yes", "no", "maybe", "stop"]), tmp_path / "docs")
    assert check_of(summary, "clips_per_label")["examples"] == ["stop: 0 clips"]
    assert check_of(summary, "label_balance")["success"]


def test_no_clips(manifest, tmp_path):
    summary = validate_manifest(manifest.iloc[:0], ValidateParams(), tmp_path / "docs")
    assert not summary["success"]
    assert check_of(summary, "classes")["observed"] == "0 labels"


def test_severities_are_overridden(manifest, tmp_path):
    break_classes(manifest)
    break_silence(manifest)
    params = ValidateParams(severity={"classes": "warn", "silence": "fail", "duration": "off"})
    summary = validate_manifest(manifest, params, tmp_path / "docs")
    assert check_of(summary, "classes")["severity"] == "warn"
    assert not summary["success"]
    assert "duration" not in [check["name"] for check in summary["checks"]]


def test_all_checks_of_a_table_may_be_off(manifest, tmp_path):
    off = {"clips_per_label": "off", "label_balance": "off"}
    assert len(validate_manifest(manifest, ValidateParams(severity=off), tmp_path / "docs")["checks"]) == 8


def test_an_unknown_check_is_named():
    with pytest.raises(ParamsError, match=r"'durations', which does not exist. Did you mean 'duration'\? Checks: col"):
        build_checks(ValidateParams(severity={"durations": "off"}))


def test_crossed_bounds():
    with pytest.raises(ParamsError, match=r"min_duration_s' is 5, above 'validate.max_duration_s', which is 2"):
        build_checks(ValidateParams(min_duration_s=5, max_duration_s=2))


def test_labels_are_counted():
    table = count_labels(pd.DataFrame({"label": ["a", "b", "a", None, "a"]}), ["b", "c"])
    assert table["label"].tolist() == ["a", "b", "c"]
    assert table["clips"].tolist() == [3, 1, 0]
    np.testing.assert_array_equal(table["imbalance"], [1, 3, np.nan])


def test_the_site_asks_no_other_host_and_all_its_links_lead_somewhere(manifest, tmp_path):
    manifest.loc[0, "label"] = "<script>alert(1)</script>"
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "old.html").write_text("from before")
    validate_manifest(manifest, ValidateParams(), docs)
    pages = sorted(docs.rglob("*.html"))
    assert len(pages) == 5
    assert not (docs / "old.html").exists()
    for page in pages:
        html = page.read_text(encoding="utf-8")
        assert not re.search(r"""(src|href)=["']?(https?:)?//""", html)
        assert "url(" not in html
        assert "default-src 'none'" in unescape(html)
        for link in re.findall(r'<a\b[^>]*href="([^"#]+)"', html):
            assert (page.parent / link).resolve().is_file(), link
    index = (docs / "index.html").read_text(encoding="utf-8")
    assert "1 of 10 checks failed" in index
    assert "<script>" not in index
    assert "&lt;script&gt;" in index


def test_the_columns_are_those_of_the_manifest(manifest):
    assert set(MANIFEST_TYPES) < set(manifest.columns)


def test_tags_are_counted_one_by_one(manifest, tmp_path):
    tags = [["dog", "rain"], ["rain"], []] * 20
    tags[0] = ["dog", "siren"]
    manifest["label"] = [";".join(own) or "(none)" for own in tags]
    params = ValidateParams(labels=["dog", "rain"], min_clips_per_label=2)
    summary = validate_manifest(manifest, params, tmp_path / "docs", tags, 1)
    assert summary["dataset"]["clips_per_label"] == {"dog": 20, "rain": 39, "siren": 1}
    assert check_of(summary, "labels")["examples"] == ["siren: label 'siren'"]
    assert check_of(summary, "clips_per_label")["examples"] == ["siren: 1 clip"]
    assert check_of(summary, "classes")["success"]
    assert check_of(summary, "label_balance")["observed"].endswith("values range from 1 : 1 to 39 : 1")
