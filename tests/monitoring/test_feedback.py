"""Labels for what was answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from audioml.audio.decode import AudioInfo
from audioml.errors import SourceError
from audioml.monitoring.feedback import import_labels, join_labels, read_labels
from audioml.monitoring.rows import list_days, read_log
from audioml.serving.prediction_log import FOLDER, Logged, PredictionLog
from audioml.store.files import hash_bytes


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / ".audioml"


def log_clips(state: Path, *clips: bytes) -> None:
    log = PredictionLog(state / FOLDER)
    info = AudioInfo("WAV", "PCM_16", 8000, 1, 4000)
    for i, clip in enumerate(clips):
        log.add(Logged(f"r{i}", 0, "tones", 1, "primary", clip, info, {"label": "low"}, 1.0))
    log.close()


def write(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "labels.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def labels_of(state: Path) -> dict[str, str]:
    log = read_log(state, list_days(state), ("request_id", "file", "sha256"))
    joined = join_labels(log, read_labels(state))
    return dict(zip(joined["request_id"], joined["label"], strict=True))


def test_labels_are_joined_by_request_or_by_hash_and_the_later_counts(state: Path, tmp_path: Path) -> None:
    clips = [b"one", b"two", b"three", b"four"]
    log_clips(state, *clips, clips[0])
    by_request = write(tmp_path, "request_id,file,label,note", "r0,0,first,x", "r1,,höch,", "r2,0,low,")
    assert import_labels(state, by_request).labels == 3
    assert labels_of(state) == {"r0": "first", "r1": "höch", "r2": "low"}
    by_hash = write(tmp_path, "sha256,label", f"{hash_bytes(clips[0])},second")
    assert import_labels(state, by_hash).labels == 1
    # The same audio was sent twice.
    assert labels_of(state) == {"r0": "second", "r1": "höch", "r2": "low", "r4": "second"}
    import_labels(state, write(tmp_path, "request_id,label", "r0,third", "r1,last", "r1,really last"))
    assert labels_of(state) == {"r0": "third", "r1": "really last", "r2": "low", "r4": "second"}


def test_rows_that_cannot_be_used_are_named(state: Path, tmp_path: Path) -> None:
    log_clips(state, b"one")
    lines = ["request_id,file,sha256,label", "r0,0,,low", "r9,0,,low", "r0,1,,low", ",,abcdef,low", ",,,low"]
    done = import_labels(state, write(tmp_path, *lines, "r0,0,, ", "r0,x,,low"))
    assert done.labels == 1
    assert done.rejected == (
        "row 3: the log has no recording 0 of request r9",
        "row 4: the log has no recording 1 of request r0",
        "row 5: the log has no recording with sha256 abcdef",
        "row 6: there is neither request_id nor sha256",
        "row 7: the label is empty",
        "row 8: file is 'x', but must be a whole number from 0",
    )
    assert len(read_labels(state)) == 1


def test_nothing_is_written_where_no_row_is_of_use(state: Path, tmp_path: Path) -> None:
    log_clips(state, b"one")
    assert import_labels(state, write(tmp_path, "request_id,label", "r9,low")).labels == 0
    assert not (state / "feedback").exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["request_id,lable", "r0,low"], "has no column label .* Did you mean 'lable'"),
        (["id,label", "r0,low"], "neither the column request_id nor sha256"),
        (["request_id,label", 'r0,"low'], "is no CSV file"),
        ([""], "is no CSV file"),
    ],
)
def test_a_file_that_is_none(state: Path, tmp_path: Path, lines: list[str], message: str) -> None:
    log_clips(state, b"one")
    with pytest.raises(SourceError, match=message):
        import_labels(state, write(tmp_path, *lines))


def test_without_predictions_there_is_nothing_to_label(state: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no predictions to label"):
        import_labels(state, write(tmp_path, "request_id,label", "r0,low"))
