from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from audioml.store.manifest import read_splits, write_splits
from audioml.store.parts import Part, join_outputs, list_parts, read_outputs, read_targets, splits_of, write_outputs

SPLITS = pd.DataFrame(
    {
        "clip_id": list("abcdefg"),
        "split": ["train", "train", "train", "train", "validation", "test", "test"],
        "fold": pd.array([0, 0, 1, 1, 0, 1, pd.NA], dtype="Int64"),
        "fold_name": ["ann", "ann", "bob", "bob", "ann", "bob", None],
        "validates": [[1], [], [0], [], [], [], []],
        "share": [0.1, 0.5, 0.5, np.nan, np.nan, np.nan, np.nan],
    }
)


def test_a_part_is_trained_by_splits_of_its_own(tmp_path: Path) -> None:
    write_splits(tmp_path / "splits.parquet", SPLITS)
    for splits in (SPLITS, read_splits(tmp_path / "splits.parquet")):
        parts = list_parts(splits)
        assert [str(part) for part in parts] == ["fold ann", "fold bob", "share 0.1", "share 0.5"]
        assert [part.item for part in parts] == ["fold-ann", "fold-bob", "share-0.1", "share-0.5"]
        found = [splits_of(splits, part) for part in parts]
        clips = {
            (str(part), name): "".join(own.loc[own["split"] == name, "clip_id"])
            for part, own in zip(parts, found, strict=True)
            for name in ("train", "validation", "test")
        }
        assert clips == {
            ("fold ann", "train"): "df",
            ("fold ann", "validation"): "c",
            ("fold ann", "test"): "abe",
            ("fold bob", "train"): "be",
            ("fold bob", "validation"): "a",
            ("fold bob", "test"): "cdf",
            ("share 0.1", "train"): "a",
            ("share 0.1", "validation"): "e",
            ("share 0.1", "test"): "fg",
            ("share 0.5", "train"): "abc",
            ("share 0.5", "validation"): "e",
            ("share 0.5", "test"): "fg",
        }
        assert all(list(own.columns) == ["clip_id", "split"] for own in found)
    assert list_parts(SPLITS[["clip_id", "split", "fold"]]) == []


def test_outputs_of_a_kind_come_back_in_order(tmp_path: Path) -> None:
    outputs = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    tables = [tmp_path / name for name in ("fold", "share")]
    write_outputs(tables[0], Part("fold", "ann"), ["b", "a"], outputs, {"labels": ["ä", "b"]})
    write_outputs(tables[1], Part("share", "0.5"), ["c"], outputs[:1], {"labels": []})
    join_outputs(tmp_path / "parts.parquet", tables)
    clips, found = read_outputs(tmp_path / "parts.parquet", "fold")
    assert clips.to_dict("list") == {"clip_id": ["b", "a"], "name": ["ann", "ann"]}
    np.testing.assert_array_equal(found, outputs)
    assert read_outputs(tmp_path / "parts.parquet", "share")[0]["clip_id"].tolist() == ["c"]
    assert read_targets(tmp_path / "parts.parquet", "fold") == {"ann": {"labels": ["ä", "b"]}}
    join_outputs(tmp_path / "none.parquet", [])
    assert read_outputs(tmp_path / "none.parquet", "share")[0].empty
