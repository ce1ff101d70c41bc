from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audioml.errors import StoreError
from audioml.store import shards
from audioml.store.features import INDEX, open_features
from audioml.store.files import read_json, write_json
from audioml.store.shards import ShardWriter

BINS = 3
FIXED, RAGGED = [5] * 11, [5, 1, 7, 2, 2, 9, 3, 1, 5, 4, 6]
ROWS = [4, 1, 6]


def write_folder(
    folder: Path, frames: list[int], shape_frames: int | None, with_audio: tuple[int, ...] = ()
) -> list[np.ndarray]:
    """Write three shards of several blocks each, and their index; return the windows, which count up from 0.

    Audio, in the shards that have it, is what the features are.
    """
    windows = np.split(np.arange(BINS * sum(frames), dtype=np.float32), BINS * np.cumsum(frames)[:-1])
    windows = [window.reshape(BINS, -1) for window in windows]
    entries, start = [], 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "BLOCK_BYTES", 12 * BINS * 4)
        for number, rows in enumerate(ROWS):
            ids = [f"clip{number}-{row // 2}" for row in range(rows)]
            part = windows[start : start + rows]
            audio = [window.ravel() for window in part] if number in with_audio else None
            with ShardWriter(folder / f"{number}.arrow", BINS, keep_audio=number in with_audio) as writer:
                writer.add(ids, np.arange(rows) / 2, part, audio)
            entries.append({"file": f"{number}.arrow", "sha256": writer.sha256, "rows": rows})
            start += rows
    write_json(folder / INDEX, {"shape": [BINS, shape_frames], "shards": entries})
    return windows


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_folder(tmp_path, FIXED, 5)
    return tmp_path


def test_windows_come_in_the_order_of_the_index(folder: Path) -> None:
    features = open_features(folder, verify=True)
    assert len(features) == 11
    assert features.shape == (BINS, 5)
    assert list(features.clip_ids[:5]) == ["clip0-0", "clip0-0", "clip0-1", "clip0-1", "clip1-0"]
    np.testing.assert_array_equal(features.offsets_s, [0, 0.5, 1, 1.5, 0, 0, 0.5, 1, 1.5, 2, 2.5])
    assert features.shard_starts.tolist() == [0, 4, 5]
    assert features.quarantined == {}


@given(indices=st.lists(st.integers(0, 10)))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_take_is_indexing(folder: Path, indices: list[int]) -> None:
    features = open_features(folder)
    expected = np.arange(11.0 * BINS * 5).reshape(11, BINS, 5)[np.array(indices, int)]
    taken = features.take(indices)
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, expected)
    out = np.empty_like(taken)
    assert features.take(indices, out=out) is out
    np.testing.assert_array_equal(out, expected)


def test_shorter_windows_are_followed_by_what_each_bin_is_filled_with(tmp_path: Path) -> None:
    windows = write_folder(tmp_path, RAGGED, None)
    features = open_features(tmp_path, verify=True)
    assert features.shape == (BINS, None)
    assert features.frames.tolist() == RAGGED
    fill = np.array([-1.0, -2.0, -3.0], np.float32)
    taken = features.take([5, 0, 7], fill)
    assert taken.shape == (3, BINS, 9)
    for window, row in zip(taken, (5, 0, 7), strict=True):
        np.testing.assert_array_equal(window[:, : RAGGED[row]], windows[row])
        np.testing.assert_array_equal(window[:, RAGGED[row] :], np.repeat(fill[:, None], 9 - RAGGED[row], axis=1))


@pytest.mark.parametrize("index", [-1, 11])
def test_a_window_that_is_not_there_is_an_error(folder: Path, index: int) -> None:
    with pytest.raises(IndexError, match="windows are 0 to 10"):
        open_features(folder).take([0, index])


def test_taken_windows_are_copies(folder: Path) -> None:
    features = open_features(folder)
    taken = features.take([0])
    taken += 1
    assert features.take([0])[0, 0, 0] == 0


def test_a_pickled_set_opens_the_files_anew(folder: Path) -> None:
    features = open_features(folder)
    pickled = pickle.dumps(features)
    assert len(pickled) < 500
    np.testing.assert_array_equal(pickle.loads(pickled).take([4, 10]), features.take([4, 10]))


def test_quarantined_clips_are_those_of_the_index(folder: Path) -> None:
    entry = {"clip_id": "bad", "reason": "unreadable", "detail": "no audio"}
    write_json(folder / INDEX, read_json(folder / INDEX) | {"quarantine": [entry]})
    assert open_features(folder).quarantined == {"bad": "unreadable"}


def test_a_missing_index_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="audioml run featurize"):
        open_features(tmp_path)


def test_a_damaged_index_is_named(folder: Path) -> None:
    (folder / INDEX).write_text('{"shape": [3,')
    with pytest.raises(StoreError, match=r"index\.json is damaged"):
        open_features(folder)


def test_a_flipped_bit_is_found_when_asked_for(folder: Path) -> None:
    path = folder / "1.arrow"
    data = bytearray(path.read_bytes())
    at = data.find(np.float32(61).tobytes())
    data[at] ^= 1
    path.write_bytes(data)
    open_features(folder)
    with pytest.raises(StoreError, match=r"1\.arrow has the checksum .*dvc checkout"):
        open_features(folder, verify=True)


@pytest.mark.parametrize(
    ("bins", "frames", "found"),
    [(5, [5], "1 windows of 5 bins"), (3, [5, 5], "2 windows of 3"), (3, [6], r"1 windows of 3 bins and \[6\] frames")],
)
def test_a_shard_of_another_shape_is_named(folder: Path, bins: int, frames: list[int], found: str) -> None:
    with ShardWriter(folder / "1.arrow", bins) as writer:
        writer.add(["a"] * len(frames), [0.0] * len(frames), [np.zeros((bins, n), np.float32) for n in frames])
    with pytest.raises(StoreError, match=rf"1\.arrow holds {found}.*says 1 of 3 bins and 5 frames"):
        open_features(folder)


def test_audio_is_taken_as_features_are(tmp_path: Path) -> None:
    windows = write_folder(tmp_path, RAGGED, None, with_audio=(0, 1, 2))
    features = open_features(tmp_path, verify=True)
    assert features.samples.tolist() == [BINS * n for n in RAGGED]
    rows = [9, 0, 4, 4, 1]
    audio = features.take_audio(rows)
    assert audio.shape == (5, BINS * 5)
    for row, samples in zip(rows, audio, strict=True):
        assert samples[: windows[row].size].tolist() == windows[row].ravel().tolist()
        assert not samples[windows[row].size :].any()
    out = np.full((2, BINS * 9), np.nan, np.float32)
    features.take_audio([5, 6], out)
    assert not np.isnan(out).any()
    assert features.take_audio([]).shape == (0, 0)
    with pytest.raises(IndexError, match="0 to 10"):
        features.take_audio([11])


@pytest.mark.parametrize("with_audio", [(), (0, 2)])
def test_shards_without_audio_say_how_to_keep_it(tmp_path: Path, with_audio: tuple[int, ...]) -> None:
    write_folder(tmp_path, FIXED, 5, with_audio)
    features = open_features(tmp_path)
    assert not features.samples.any()
    with pytest.raises(StoreError, match=r"hold no audio. Set features.keep_audio: true .*audioml run featurize"):
        features.take_audio([0])
