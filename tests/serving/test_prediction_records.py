from __future__ import annotations

import hashlib
from pathlib import Path

import pandas as pd
import pytest

from audioml.audio.decode import AudioInfo
from audioml.serving.prediction_log import FOLDER, Logged, PredictionLog
from audioml.serving.prediction_records import find_recordings, find_request, forget_audio

INFO = AudioInfo("WAV", "PCM_16", 8000, 2, 4000)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A log of two requests, the second with two files."""
    log = PredictionLog(tmp_path / FOLDER, keep_audio=True)
    for request, file, audio in (
        ("r0", 0, b"first recording"),
        ("r1", 0, b"second recording"),
        ("r1", 1, b"first recording"),
        ("r2", 1, None),
    ):
        log.add(Logged(request, file, "tones", 3, "primary", audio, INFO, {"label": "höch"}, 1.5))
    log.close()
    return tmp_path


def sha256(audio: bytes) -> str:
    return hashlib.sha256(audio).hexdigest()


def test_the_files_of_a_request(state: Path) -> None:
    rows = find_request(state, "r1")
    assert [(row["file"], row["sha256"]) for row in rows] == [
        (0, sha256(b"second recording")),
        (1, sha256(b"first recording")),
    ]
    assert (rows[0]["prediction"], rows[0]["model"], rows[0]["version"]) == ({"label": "höch"}, "tones", 3)
    assert rows[0]["time"].endswith("+00:00")
    assert "audio" not in rows[0]
    assert find_request(state, "r9") == find_request(state / "nowhere", "r1") == []


def test_the_answers_about_a_recording(state: Path) -> None:
    rows = find_recordings(state, {sha256(b"first recording")})
    assert [(row["request_id"], row["file"]) for row in rows] == [("r0", 0), ("r1", 1)]


def test_audio_is_forgotten_and_all_else_stays(state: Path) -> None:
    before = pd.read_parquet(state / FOLDER)
    assert forget_audio(state, [sha256(b"first recording")]) == 2
    assert forget_audio(state, [sha256(b"first recording")]) == 0
    after = pd.read_parquet(state / FOLDER)
    assert dict(zip(after["request_id"] + after["file"].astype(str), after["audio"], strict=True)) == {
        "r00": None,
        "r10": b"second recording",
        "r11": None,
        "r21": None,
    }
    pd.testing.assert_frame_equal(before.drop(columns="audio"), after.drop(columns="audio"))
    assert not any(b"first recording" in path.read_bytes() for path in (state / FOLDER).rglob("*.parquet"))
