import json

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audioml.errors import StoreError
from audioml.store.clips import ROW_GROUP_CLIPS, Clip, Packer, count_rows, read_clips, write_clips
from audioml.store.files import hash_bytes


def make_clips(n, size=50):
    return [Clip(hash_bytes(data), f"ö/{i}.wav", data) for i in range(n) for data in [bytes([i % 256]) * size]]


@pytest.mark.parametrize("n", [1, ROW_GROUP_CLIPS, ROW_GROUP_CLIPS * 2 + 7])
def test_bytes_come_back_untouched(tmp_path, n):
    clips = make_clips(n)
    path = tmp_path / write_clips(tmp_path, clips)
    assert read_clips(path) == [(clip.clip_id, clip.data) for clip in clips]
    rows = [n - 1, 0, n // 2, 0]
    assert read_clips(path, rows) == [(clips[row].clip_id, clips[row].data) for row in rows]
    assert read_clips(path, []) == []


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=8))
def test_any_bytes(tmp_path, blobs):
    clips = [Clip(hash_bytes(data), f"{i}", data) for i, data in enumerate(blobs)]
    assert [data for _, data in read_clips(tmp_path / write_clips(tmp_path, clips))] == blobs


def test_equal_clips_make_equal_files(tmp_path):
    clips = make_clips(130)
    names = [write_clips(tmp_path / folder, clips) for folder in ("a", "b")]
    assert names[0] == names[1]
    assert (tmp_path / "a" / names[0]).read_bytes() == (tmp_path / "b" / names[0]).read_bytes()
    assert write_clips(tmp_path / "a", clips[:-1]) != names[0]


def test_a_shard_is_never_written_again(tmp_path):
    path = tmp_path / write_clips(tmp_path, make_clips(3))
    before = path.stat()
    write_clips(tmp_path, make_clips(3))
    assert path.stat().st_ino == before.st_ino
    assert path.stat().st_mtime_ns == before.st_mtime_ns


def test_hugging_face_reads_the_schema_as_audio(tmp_path):
    schema = pq.read_schema(tmp_path / write_clips(tmp_path, make_clips(2)))
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["audio"] == {"_type": "Audio"}
    assert [field.name for field in schema.field("audio").type] == ["bytes", "path"]


def test_errors(tmp_path):
    with pytest.raises(StoreError, match=r"missing.*audioml run ingest"):
        read_clips(tmp_path / "gone.parquet")
    (tmp_path / "bad.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(StoreError, match="not a shard"):
        read_clips(tmp_path / "bad.parquet")
    path = tmp_path / write_clips(tmp_path, make_clips(2))
    with pytest.raises(StoreError, match="rows 0 to 1, but row 2"):
        read_clips(path, [0, 2])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 400), st.floats(0.1, 9.0)), min_size=1, max_size=60))
def test_packed_shards_are_whole_bounded_and_even(tmp_path, shapes):
    clips = [Clip(hash_bytes(data), f"{i}", data) for i, (n, _) in enumerate(shapes) for data in [bytes([i]) * n]]
    packer = Packer(tmp_path, max_bytes=1000, max_s=10)
    for clip, (_, duration_s) in zip(clips, shapes, strict=True):
        packer.add(clip, duration_s)
        packer.add(clip, duration_s)
    places = packer.finish()
    assert set(places) == {clip.clip_id for clip in clips}
    fills, data = {}, {}
    for clip, (_, duration_s) in zip(clips, shapes, strict=True):
        place = places[clip.clip_id]
        fills.setdefault(place.shard, []).append(packer.share(len(clip.data), duration_s))
        data.setdefault(place.shard, []).append((clip.clip_id, clip.data))
        assert place.row == len(data[place.shard]) - 1
    for shard, packed in data.items():
        assert read_clips(tmp_path / shard) == packed
        assert count_rows(tmp_path / shard) == len(packed)
        assert len(packed) == 1 or sum(fills[shard]) <= 1.0 + 1e-6
    # No clip fills more than 0.9: all shards but the last three are as full as the next clip allows.
    assert all(sum(fill) > 0.1 for fill in list(fills.values())[:-3])


def test_bytes_that_are_not_the_clips_are_not_given_out(tmp_path):
    clips = make_clips(3, size=500)
    path = tmp_path / write_clips(tmp_path, clips)
    data = bytearray(path.read_bytes())
    data[data.index(clips[1].data) + 100] ^= 1
    path.write_bytes(data)
    assert read_clips(path, [0, 2]) == [(clips[0].clip_id, clips[0].data), (clips[2].clip_id, clips[2].data)]
    with pytest.raises(StoreError, match=f"clip {clips[1].clip_id[:12]} do not match.*audioml check --deep"):
        read_clips(path)
