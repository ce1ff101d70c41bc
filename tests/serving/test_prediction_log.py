from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from audioml.audio.condition import Condition
from audioml.audio.decode import AudioInfo
from audioml.inference.measures import Measures
from audioml.inference.reference import MEASURE_TYPES
from audioml.serving import prediction_log
from audioml.serving.prediction_log import Logged, PredictionLog

TODAY = datetime.datetime.now(datetime.UTC).date()


def row(i: int, audio: bytes = b"audio") -> Logged:
    return Logged(
        f"r{i}", 0, "tones", 3, "primary", audio, AudioInfo("WAV", "PCM_16", 8000, 2, 4000), {"label": "höch"}, 1.5
    )


def test_rows_are_read_back_as_a_table(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log")
    for i in range(3):
        log.add(row(i))
    log.close()
    table = pd.read_parquet(tmp_path / "log")
    assert list(table["request_id"]) == ["r0", "r1", "r2"]
    first = table.iloc[0]
    assert (first["model"], first["version"], first["role"], first["ms"]) == ("tones", 3, "primary", 1.5)
    assert (first["format"], first["sample_rate"], first["channels"], first["duration_s"]) == (
        "WAV PCM_16",
        8000,
        2,
        0.5,
    )
    assert json.loads(first["prediction"]) == {"label": "höch"}
    assert first["sha256"] == hashlib.sha256(b"audio").hexdigest()
    assert first["audio"] is None
    assert str(first["day"]) == str(TODAY)


def test_audio_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log", keep_audio=True)
    log.add(row(0, b"sound"))
    log.close()
    assert pd.read_parquet(tmp_path / "log")["audio"].tolist() == [b"sound"]


def test_share(tmp_path: Path) -> None:
    log = PredictionLog(tmp_path / "log", share=0.5)
    for i in range(400):
        log.add(row(i))
    log.close()
    # 400 fair draws are within these with a probability of 1 - 1e-12.
    assert 130 < len(pd.read_parquet(tmp_path / "log")) < 270


def test_a_day_that_is_over_becomes_one_file_and_an_old_one_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    for i in range(3):
        log = PredictionLog(folder)
        log.add(row(i))
        log.close()
    today = folder / f"day={TODAY}"
    assert len(list(today.iterdir())) == 3
    later = PredictionLog(folder, days=10, today=lambda: TODAY + datetime.timedelta(days=1))
    later.close()
    (file,) = today.iterdir()
    assert sorted(pd.read_parquet(file)["request_id"]) == ["r0", "r1", "r2"]
    much_later = PredictionLog(folder, days=10, today=lambda: TODAY + datetime.timedelta(days=11))
    much_later.close()
    assert list(folder.iterdir()) == []


def test_rows_that_cannot_be_written_are_counted_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, broken = PredictionLog._write, [True]

    def fail_once(log: PredictionLog, rows: list[dict[str, object]]) -> None:
        if broken.pop() if broken else False:
            raise OSError("no space")
        write(log, rows)

    monkeypatch.setattr(PredictionLog, "_write", fail_once)
    monkeypatch.setattr(prediction_log, "FLUSH_ROWS", 2)
    log = PredictionLog(tmp_path / "log")
    for i in range(5):
        log.add(row(i))
    log.close()
    assert log.lost == 2
    assert sorted(pd.read_parquet(tmp_path / "log")["request_id"]) == ["r2", "r3", "r4"]


def test_measures_are_columns_of_their_own_and_null_where_there_are_none(tmp_path: Path) -> None:
    condition = Condition(-20.0, -3.0, -60.0, 0.25, 0.5, 3000.0)
    measured = replace(row(0), measures=Measures(condition, np.array([1.5, 2.5], np.float32)))
    log = PredictionLog(tmp_path / "log")
    log.add(measured)
    log.add(row(1))
    log.close()
    first, second = pd.read_parquet(tmp_path / "log").to_dict("records")
    assert {name: first[name] for name in vars(condition)} == vars(condition)
    assert first["embedding"].tolist() == [1.5, 2.5]
    assert np.isnan(second["noise_dbfs"])
    assert second["embedding"] is None


def test_a_day_that_an_earlier_version_began_is_joined(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    for i in range(2):
        log = PredictionLog(folder)
        log.add(row(i))
        log.close()
    today = folder / f"day={TODAY}"
    early = sorted(today.iterdir())[0]
    with early.open("rb") as file:
        table = pq.read_table(file)
    pq.write_table(table.drop_columns(list(MEASURE_TYPES)), early)
    PredictionLog(folder, today=lambda: TODAY + datetime.timedelta(days=1)).close()
    (file_now,) = today.iterdir()
    joined = pd.read_parquet(file_now)
    assert sorted(joined["request_id"]) == ["r0", "r1"]
    assert joined["rms_dbfs"].isna().all()
