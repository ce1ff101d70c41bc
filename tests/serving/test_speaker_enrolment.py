from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from audioml.errors import DecodeError, ParamsError, RegistryError, SourceError, StoreError
from audioml.serving.speaker_enrolment import enrol, forget, list_speakers, rebuild
from audioml.serving.speaker_index import FILE, FOLDER, read_index

from ._fake_embedder import make_embedder, write_clips

ONE, TWO = make_embedder(1), make_embedder(2, turn_deg=90)


def test_recordings_are_added_once(tmp_path: Path) -> None:
    first, second, third = write_clips(tmp_path, 0, 10, 20)
    done = enrol(tmp_path, ONE, "ann", [first, second])
    assert (done["added"], done["known"]) == ([str(first), str(second)], [])
    copy = tmp_path / "copy.wav"
    shutil.copy(second, copy)
    done = enrol(tmp_path, ONE, "ann", [copy, third, third])
    assert done["added"] == [str(third)]
    assert done["known"] == [
        {"file": str(copy), "enrolled_as": str(second)},
        {"file": str(third), "enrolled_as": str(third)},
    ]
    assert (done["recordings"], done["index"], done["model"]["version"]) == (3, 2, 1)
    done = enrol(tmp_path, ONE, "ann", [copy])
    assert (done["added"], done["index"]) == ([], 2)
    enrol(tmp_path, ONE, "Bob", write_clips(tmp_path, 90))
    assert list_speakers(tmp_path) == {
        "index": 3,
        "model": {"name": "voices", "version": 1, "digest": f"{1:064x}", "run_id": "run1"},
        "speakers": [{"speaker": "Bob", "recordings": 1}, {"speaker": "ann", "recordings": 3}],
    }


def test_one_recording_is_of_one_speaker(tmp_path: Path) -> None:
    first, second = write_clips(tmp_path, 0, 10)
    enrol(tmp_path, ONE, "ann", [first])
    with pytest.raises(ParamsError, match=rf"{first} cannot be enrolled as 'bob': .* as 'ann' .*speakers forget ann"):
        enrol(tmp_path, ONE, "bob", [second, first])
    assert [r.path for r in read_index(tmp_path).recordings] == [str(first)]


def test_one_file_that_is_no_audio_enrols_none(tmp_path: Path) -> None:
    good = write_clips(tmp_path, 0)
    (tmp_path / "bad.wav").write_text("noise")
    with pytest.raises(DecodeError, match=rf"unreadable: {tmp_path / 'bad.wav'}: not a number"):
        enrol(tmp_path, ONE, "ann", [*good, tmp_path / "bad.wav"])
    assert list_speakers(tmp_path) == {"index": 0, "model": None, "speakers": []}


def test_a_path_that_cannot_be_kept_is_named(tmp_path: Path) -> None:
    odd = tmp_path / os.fsdecode(b"\xff.wav")
    odd.write_text("0")
    with pytest.raises(SourceError, match=r"xff\.wav' is not UTF-8"):
        enrol(tmp_path, ONE, "ann", [odd])


@pytest.mark.parametrize("name", ["", os.fsdecode(b"\xff"), "  ", "a\nb", "unknown"])
def test_a_name_is_one_that_answers_can_show(tmp_path: Path, name: str) -> None:
    with pytest.raises(ParamsError, match=r"name|called 'unknown'"):
        enrol(tmp_path, ONE, name, write_clips(tmp_path, 0))


def test_another_version_is_refused_until_all_is_rebuilt(tmp_path: Path) -> None:
    enrol(tmp_path, ONE, "ann", write_clips(tmp_path, 0, 10))
    with pytest.raises(RegistryError) as refused:
        enrol(tmp_path, TWO, "bob", write_clips(tmp_path, 90))
    for said in ("voices version 1", "voices version 2", "audioml speakers rebuild", "--model voices/1"):
        assert said in str(refused.value)
    done = rebuild(tmp_path, TWO)
    assert (done["recordings"], done["index"], done["model"]["version"]) == (2, 2, 2)
    enrol(tmp_path, TWO, "bob", write_clips(tmp_path, 90))
    index = read_index(tmp_path)
    assert index.embeddings["ann"][0] == pytest.approx([0, 1], abs=1e-6)
    assert index.embeddings["bob"][0] == pytest.approx([-1, 0], abs=1e-6)


def test_where_nobody_is_left_any_version_may_begin(tmp_path: Path) -> None:
    enrol(tmp_path, ONE, "ann", write_clips(tmp_path, 0))
    forget(tmp_path, "ann")
    with pytest.raises(StoreError, match="No speaker is enrolled"):
        rebuild(tmp_path, TWO)
    assert enrol(tmp_path, TWO, "ann", write_clips(tmp_path, 0))["index"] == 3


def test_forgetting_leaves_nothing(tmp_path: Path) -> None:
    enrol(tmp_path, ONE, "ann", write_clips(tmp_path, 0, 10))
    (kept,) = write_clips(tmp_path, 90)
    enrol(tmp_path, ONE, "bob", [kept])
    before = read_index(tmp_path)
    with pytest.raises(ParamsError, match=r"'amn' is enrolled\. Did you mean 'ann'"):
        forget(tmp_path, "amn")
    done = forget(tmp_path, "ann")
    assert (done["recordings"], done["index"]) == (2, 3)
    (file,) = (tmp_path / FOLDER).iterdir()
    data = file.read_bytes()
    for recording in before.recordings:
        left = recording.speaker == "bob"
        assert (recording.path.encode() in data, recording.sha256.encode() in data) == (left, left)
    assert list(read_index(tmp_path).embeddings) == ["bob"]


def test_a_rebuild_names_all_files_that_are_not_as_they_were(tmp_path: Path) -> None:
    gone, changed, _ = write_clips(tmp_path, 0, 10, 20)
    enrol(tmp_path, ONE, "ann", [gone, changed, tmp_path / "20.wav"])
    gone.unlink()
    changed.write_text("11")
    before = (tmp_path / FOLDER / FILE).read_bytes()
    with pytest.raises(SourceError) as refused:
        rebuild(tmp_path, TWO)
    assert f"{gone} (gone, ann), {changed} (changed, ann)." in str(refused.value)
    assert "20.wav" not in str(refused.value)
    assert "audioml speakers forget NAME" in str(refused.value)
    assert (tmp_path / FOLDER / FILE).read_bytes() == before


def test_of_changes_at_once_none_is_lost(tmp_path: Path) -> None:
    files = write_clips(tmp_path, *range(24))
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda i: enrol(tmp_path, ONE, f"s{i % 6}", [files[i]]), range(24)))
    assert sorted(d["index"] for d in done) == list(range(1, 25))
    assert sorted(r.path for r in read_index(tmp_path).recordings) == sorted(map(str, files))
