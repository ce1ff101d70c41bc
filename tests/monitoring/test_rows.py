"""The log as monitoring reads it."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from audioml.audio.decode import AudioInfo
from audioml.errors import StoreError
from audioml.monitoring import rows
from audioml.monitoring.rows import list_days, read_log, rows_of_log
from audioml.serving.prediction_log import DAY, FOLDER, Logged, PredictionLog

TODAY = datetime.datetime.now(datetime.UTC).date()


def log_rows(state: Path, *versions: int) -> None:
    for i, version in enumerate(versions):
        log = PredictionLog(state / FOLDER)
        info = AudioInfo("WAV", "PCM_16", 8000, 1, 4000)
        log.add(Logged(f"r{i}", 0, "tones", version, "primary", b"clip", info, {"label": "low"}, 1.0))
        log.close()


def test_rows_of_a_version(tmp_path: Path) -> None:
    log_rows(tmp_path, 1, 2, 1)
    assert list_days(tmp_path) == [TODAY]
    found = rows_of_log(tmp_path, [TODAY - datetime.timedelta(days=1), TODAY], "tones", 1)
    assert (sorted(found.table["request_id"]), found.left_out) == (["r0", "r2"], 1)
    assert rows_of_log(tmp_path, [TODAY], "bells", 1).left_out == 3


def test_a_day_that_is_made_one_file_meanwhile_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_rows(tmp_path, 1, 1, 1)
    read, calls = rows._read, []

    def join_first(path: Path, schema: object) -> object:
        calls.append(path)
        if len(calls) == 2:
            PredictionLog(tmp_path / FOLDER, today=lambda: TODAY + datetime.timedelta(days=1)).close()
        return read(path, schema)

    monkeypatch.setattr(rows, "_read", join_first)
    assert sorted(read_log(tmp_path, [TODAY], ("request_id",))["request_id"]) == ["r0", "r1", "r2"]
    assert len(list((tmp_path / FOLDER / DAY.format(TODAY)).iterdir())) == 1


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    log_rows(tmp_path, 1)
    (damaged,) = (tmp_path / FOLDER).rglob("*.parquet")
    damaged.write_bytes(b"no table")
    with pytest.raises(StoreError, match=damaged.name):
        read_log(tmp_path, [TODAY])


def test_without_a_log_there_are_no_days(tmp_path: Path) -> None:
    assert list_days(tmp_path) == []
    assert read_log(tmp_path, []).empty
