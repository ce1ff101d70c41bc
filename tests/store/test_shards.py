from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.errors import StoreError
from audioml.store import shards
from audioml.store.files import hash_file
from audioml.store.shards import ShardWriter, read_shard

BINS = 3


def make_windows(frames: list[int], seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(BINS, n)).astype(np.float32) for n in frames]


def count_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def write(path: Path, windows: list[np.ndarray], at_once: int = 1000) -> ShardWriter:
    with ShardWriter(path, BINS, {"feature": "logmel"}) as writer:
        for start in range(0, len(windows), at_once):
            part = range(start, min(start + at_once, len(windows)))
            writer.add([f"ü{i // 2}" for i in part], [i / 4 for i in part], [windows[i] for i in part])
    return writer


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(1, 5), st.sampled_from([16, 400, 1 << 20]))
@settings(max_examples=40, deadline=None)
def test_other_readers_read_what_is_written_and_the_bytes_follow_from_the_rows(
    tmp_path_factory: pytest.TempPathFactory, frames: list[int], at_once: int, block_bytes: int
) -> None:
    folder, windows = tmp_path_factory.mktemp("shards"), make_windows(frames)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "BLOCK_BYTES", block_bytes)
        writer, other = write(folder / "a.arrow", windows), write(folder / "b.arrow", windows, at_once)
    assert writer.sha256 == hash_file(folder / "a.arrow") == hash_file(folder / "b.arrow") == other.sha256
    assert writer.rows == len(frames)
    assert writer.size_bytes == (folder / "a.arrow").stat().st_size
    table = pa.ipc.open_file(str(folder / "a.arrow")).read_all()
    assert table.column_names == ["clip_id", "offset_s", "frames", "feature"]
    assert table["clip_id"].to_pylist() == [f"ü{i // 2}" for i in range(len(frames))]
    assert table["offset_s"].to_pylist() == [i / 4 for i in range(len(frames))]
    assert table["frames"].to_pylist() == frames
    assert table["feature"].to_pylist() == [window.ravel().tolist() for window in windows]
    shard = read_shard(folder / "a.arrow")
    assert (shard.bins, len(shard), shard.frames.tolist()) == (BINS, len(frames), frames)
    assert shard.clip_ids.tolist() == table["clip_id"].to_pylist()
    assert shard.offsets_s.tolist() == table["offset_s"].to_pylist()


def test_a_window_that_exceeds_a_block_has_one_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "BLOCK_BYTES", 5 * BINS * 4)
    write(tmp_path / "a.arrow", make_windows([2, 2, 2, 5, 1, 9, 1]))
    assert read_shard(tmp_path / "a.arrow").block_rows.tolist() == [2, 1, 1, 1, 1, 1]


def test_a_file_of_many_blocks_takes_the_memory_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block_bytes, n_blocks = 256 * 1024, 40
    monkeypatch.setattr(shards, "BLOCK_BYTES", block_bytes)
    window = np.zeros((BINS, block_bytes // 4 // BINS // 8), np.float32)
    before, pool = pa.default_memory_pool(), pa.proxy_memory_pool(pa.default_memory_pool())
    pa.set_memory_pool(pool)
    tracemalloc.start()
    try:
        with ShardWriter(tmp_path / "a.arrow", BINS) as writer:
            for _ in range(8 * n_blocks):
                writer.add(["a"], [0], [window])
        peak_bytes = tracemalloc.get_traced_memory()[1] + pool.max_memory()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(before)
    assert len(read_shard(tmp_path / "a.arrow").block_rows) == n_blocks
    # The block, and copies of it on their way to the file.
    assert peak_bytes < 4 * block_bytes


def test_an_array_of_windows_is_as_a_list_of_them_in_c_order(tmp_path: Path) -> None:
    features = np.arange(30, dtype=np.float32).reshape(2, 5, 3).transpose(0, 2, 1)
    for name, windows in {"a": features, "b": [features[0].copy(), features[1].copy()]}.items():
        with ShardWriter(tmp_path / name, BINS) as writer:
            writer.add(["a", "b"], [0, 0], windows)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    np.testing.assert_array_equal(read_shard(tmp_path / "a").blocks[0], features.ravel())


def test_features_are_views_of_the_file_and_leave_no_descriptor_open(tmp_path: Path) -> None:
    write(tmp_path / "a.arrow", make_windows([4000]))
    allocated, descriptors = pa.total_allocated_bytes(), count_descriptors()
    shard = read_shard(tmp_path / "a.arrow")
    assert pa.total_allocated_bytes() - allocated < shard.blocks[0].nbytes / 2
    assert count_descriptors() == descriptors
    assert not shard.blocks[0].flags.writeable
    assert "a.arrow" in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("shape", [(BINS + 1, 5), (5,)])
def test_an_error_leaves_the_file_that_was_there_and_no_other(tmp_path: Path, shape: tuple[int, ...]) -> None:
    write(tmp_path / "a.arrow", make_windows([3]))
    before = (tmp_path / "a.arrow").read_bytes()
    with pytest.raises(ValueError, match=r"expected \(3, frames\)"):
        write(tmp_path / "a.arrow", [*make_windows([4]), np.zeros(shape, np.float32)], at_once=1)
    assert [path.name for path in tmp_path.iterdir()] == ["a.arrow"]
    assert (tmp_path / "a.arrow").read_bytes() == before


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(sink: object, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shards._HashingSink, "write", refuse)
    with pytest.raises(StoreError, match=r"disk .* is full: a\.arrow cannot be written\. Nothing half-written stays"):
        write(tmp_path / "a.arrow", make_windows([4]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_shard_is_named(tmp_path: Path, share: float) -> None:
    path = tmp_path / "2.arrow"
    write(path, make_windows([5, 5]))
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(StoreError, match=r"2\.arrow is not a whole feature shard"):
        read_shard(path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"1\.arrow is missing.*dvc checkout"):
        read_shard(tmp_path / "1.arrow")


def write_audio(path: Path, lengths: list[int]) -> list[np.ndarray]:
    audio = [np.arange(n, dtype=np.float32) + 100 * i for i, n in enumerate(lengths)]
    with ShardWriter(path, BINS, keep_audio=True) as writer:
        for i, window in enumerate(make_windows([2] * len(lengths))):
            writer.add([f"clip{i}"], [0], [window], [audio[i]])
    return audio


def test_audio_is_a_column_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "BLOCK_BYTES", 4 * 50)
    audio = write_audio(tmp_path / "a.arrow", [20, 30, 7, 90, 1])
    table = pa.ipc.open_file(str(tmp_path / "a.arrow")).read_all()
    assert table.column_names == ["clip_id", "offset_s", "frames", "feature", "audio"]
    assert table["audio"].to_pylist() == [samples.tolist() for samples in audio]
    shard = read_shard(tmp_path / "a.arrow")
    # Both columns bound a block: here it is the longer one.
    assert shard.block_rows.tolist() == [2, 1, 1, 1]
    assert shard.audio is not None
    assert shard.audio.lengths.tolist() == [20, 30, 7, 90, 1]
    assert not shard.audio.blocks[0].flags.writeable


def test_audio_is_given_where_it_is_kept_and_nowhere_else(tmp_path: Path) -> None:
    (window,) = make_windows([2])
    for keep_audio, audio in ((True, None), (False, [np.zeros(5, np.float32)])):
        with (
            pytest.raises(ValueError, match="where it is kept"),
            ShardWriter(tmp_path / "a.arrow", BINS, keep_audio=keep_audio) as writer,
        ):
            writer.add(["a"], [0], [window], audio)
    assert list(tmp_path.iterdir()) == []
