import pandas as pd
import pytest

from audioml.errors import StoreError
from audioml.store.manifest import (
    MANIFEST_TYPES,
    build_manifest,
    build_quarantine,
    read_manifest,
    read_quarantine,
    read_splits,
    write_manifest,
    write_quarantine,
    write_splits,
)
from audioml.store.recordings import build_facts

FACTS = {
    name: ("x" if str(kind) == "string" else 1 if str(kind) == "int64" else 0.5)
    for name, kind in MANIFEST_TYPES.items()
}


def facts(*paths):
    return build_facts([{**{k: v for k, v in FACTS.items() if k != "label"}, "path": path} for path in paths])


def test_columns_order_and_types(tmp_path):
    own = {"label": ["b", "a", "ä"], "zeta": [1, None, 3], "alpha": ["x", None, "y"], "flag": [True, False, None]}
    write_manifest(tmp_path / "m.parquet", build_manifest(facts("2", "1", "3"), own))
    manifest = read_manifest(tmp_path / "m.parquet")
    assert list(manifest.columns) == [*MANIFEST_TYPES, "alpha", "flag", "zeta"]
    assert list(manifest["path"]) == ["1", "2", "3"]
    assert list(manifest["label"]) == ["a", "b", "ä"]
    assert list(manifest.index) == [0, 1, 2]
    assert manifest["zeta"].dtype == "Int64"
    assert manifest["flag"].dtype == "boolean"
    assert manifest["zeta"].isna().tolist() == [True, False, False]
    assert manifest["row"].dtype == "int64"


def test_no_gap_no_nullable_type(tmp_path):
    write_manifest(tmp_path / "m.parquet", build_manifest(facts("1"), {"label": ["a"], "fold": [3], "score": [0.5]}))
    manifest = read_manifest(tmp_path / "m.parquet")
    assert manifest["fold"].dtype == "int64"
    assert manifest["score"].dtype == "float64"


def test_a_column_of_gaps_is_text(tmp_path):
    write_manifest(tmp_path / "m.parquet", build_manifest(facts("1"), {"label": ["a"], "speaker": [None]}))
    assert read_manifest(tmp_path / "m.parquet")["speaker"].isna().all()


def test_equal_tables_make_equal_files(tmp_path):
    own = {"label": ["b", "a"], "n": [1, 2]}
    write_manifest(tmp_path / "a", build_manifest(facts("2", "1"), own))
    shuffled = build_manifest(facts("1", "2"), {"n": [2, 1], "label": ["a", "b"]})
    write_manifest(tmp_path / "b", shuffled)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_quarantine_may_be_empty(tmp_path):
    write_quarantine(tmp_path / "q", build_quarantine([]))
    assert list(read_quarantine(tmp_path / "q").columns) == ["path", "reason", "detail"]
    write_quarantine(tmp_path / "q", build_quarantine([("b", "empty", ""), ("a", "missing", "")]))
    assert list(read_quarantine(tmp_path / "q")["path"]) == ["a", "b"]


def test_splits(tmp_path):
    splits = pd.DataFrame({"split": ["train", "test"], "clip_id": ["x", "y"], "fold": [0, 1]})
    write_splits(tmp_path / "s", splits)
    pd.testing.assert_frame_equal(read_splits(tmp_path / "s"), splits[["clip_id", "split", "fold"]])


def test_errors(tmp_path):
    with pytest.raises(StoreError, match=r"missing.*audioml run split"):
        read_splits(tmp_path / "gone")
    (tmp_path / "bad").write_bytes(b"nothing like it")
    with pytest.raises(StoreError, match="no Parquet file"):
        read_manifest(tmp_path / "bad")
    pd.DataFrame({"path": ["x"]}).to_parquet(tmp_path / "few")
    with pytest.raises(StoreError, match="lacks the column"):
        read_manifest(tmp_path / "few")
