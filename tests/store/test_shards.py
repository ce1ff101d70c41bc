import pickle

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from audioml.errors import StoreError
from audioml.store.files import hash_file, write_json
from audioml.store.shards import INDEX, open_features, read_shard, write_shard

SHAPE = (3, 5)


@pytest.fixture
def folder(tmp_path):
    """Three shards of 4, 1 and 6 windows whose features count up from 0, and their index."""
    entries, start = [], 0
    for number, rows in enumerate([4, 1, 6]):
        features = np.arange(start, start + rows * 15, dtype=np.float32).reshape(rows, *SHAPE)
        ids = [f"clip{number}-{row // 2}" for row in range(rows)]
        sha256 = write_shard(tmp_path / f"{number}.arrow", ids, np.arange(rows) / 2, features)
        entries.append({"file": f"{number}.arrow", "sha256": sha256, "rows": rows})
        start += rows * 15
    write_json(tmp_path / INDEX, {"shape": list(SHAPE), "shards": entries})
    return tmp_path


def test_windows_come_in_the_order_of_the_index(folder):
    features = open_features(folder, verify=True)
    assert len(features) == 11
    assert features.shape == SHAPE
    assert list(features.clip_ids[:5]) == ["clip0-0", "clip0-0", "clip0-1", "clip0-1", "clip1-0"]
    np.testing.assert_array_equal(features.offsets_s, [0, 0.5, 1, 1.5, 0, 0, 0.5, 1, 1.5, 2, 2.5])


@given(indices=st.lists(st.integers(0, 10)))
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_take_is_indexing(folder, indices):
    taken = open_features(folder).take(indices)
    assert taken.dtype == np.float32
    np.testing.assert_array_equal(taken, np.arange(165.0).reshape(11, *SHAPE)[np.array(indices, int)])


@pytest.mark.parametrize("index", [-1, 11])
def test_a_window_that_is_not_there_is_an_error(folder, index):
    with pytest.raises(IndexError, match="windows are 0 to 10"):
        open_features(folder).take([0, index])


def test_features_are_views_of_the_file_and_taken_ones_are_copies(folder):
    features = open_features(folder)
    assert not features.shards[0].flags.writeable
    assert not features.shards[0].flags.owndata
    taken = features.take([0])
    taken += 1
    assert features.shards[0][0, 0, 0] == 0


def test_nothing_is_allocated_when_features_are_opened(folder):
    before = pa.total_allocated_bytes()
    features = open_features(folder)
    assert pa.total_allocated_bytes() - before < sum(shard.nbytes for shard in features.shards)


def test_a_pickled_set_opens_the_files_anew(folder):
    features = open_features(folder)
    pickled = pickle.dumps(features)
    assert len(pickled) < 500
    np.testing.assert_array_equal(pickle.loads(pickled).take([4, 10]), features.take([4, 10]))


@given(
    features=arrays(np.float32, st.tuples(*[st.integers(1, 6)] * 3), elements=st.floats(width=32, allow_nan=False)),
)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path, features):
    ids = [f"ü{i}" for i in range(len(features))]
    offsets_s = np.linspace(-1, 1, len(features))
    sha256 = write_shard(tmp_path / "a.arrow", ids, offsets_s, features, {"feature": "logmel"})
    assert sha256 == hash_file(tmp_path / "a.arrow")
    assert sha256 == write_shard(tmp_path / "b.arrow", ids, offsets_s, features, {"feature": "logmel"})
    shard = read_shard(tmp_path / "a.arrow")
    assert list(shard.clip_ids) == ids
    np.testing.assert_array_equal(shard.offsets_s, offsets_s)
    np.testing.assert_array_equal(shard.features, features)


def test_a_transposed_array_is_written_in_c_order(tmp_path):
    features = np.arange(30, dtype=np.float32).reshape(2, 5, 3).transpose(0, 2, 1)
    write_shard(tmp_path / "a.arrow", ["a", "b"], [0, 0], features)
    np.testing.assert_array_equal(read_shard(tmp_path / "a.arrow").features, features)


def test_other_arrow_readers_read_a_shard(folder):
    table = pa.ipc.open_file(str(folder / "0.arrow")).read_all()
    assert table.column_names == ["clip_id", "offset_s", "feature"]
    assert table["feature"].to_pylist()[1] == list(range(15, 30))


def test_a_missing_index_says_how_to_make_it(tmp_path):
    with pytest.raises(StoreError, match="audioml run featurize"):
        open_features(tmp_path)


def test_a_damaged_index_is_named(folder):
    (folder / INDEX).write_text('{"shape": [3,')
    with pytest.raises(StoreError, match=r"index\.json is damaged"):
        open_features(folder)


def test_a_missing_shard_is_named(folder):
    (folder / "1.arrow").unlink()
    with pytest.raises(StoreError, match=r"1\.arrow is missing.*dvc checkout"):
        open_features(folder)


@pytest.mark.parametrize("kept", [0, 7, 100, 600])
def test_a_truncated_shard_is_named(folder, kept):
    path = folder / "2.arrow"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StoreError, match=r"2\.arrow is not a whole feature shard"):
        open_features(folder)


def test_a_flipped_bit_is_found_when_asked_for(folder):
    path = folder / "1.arrow"
    data = bytearray(path.read_bytes())
    at = data.find(np.float32(61).tobytes())
    data[at] ^= 1
    path.write_bytes(data)
    open_features(folder)
    with pytest.raises(StoreError, match=r"1\.arrow has the checksum .*dvc checkout"):
        open_features(folder, verify=True)


def test_a_shard_of_another_shape_is_named(folder):
    write_shard(folder / "1.arrow", ["a"], [0], np.zeros((1, 5, 3), np.float32))
    with pytest.raises(StoreError, match=r"1\.arrow holds features of shape \(1, 5, 3\)"):
        open_features(folder)
