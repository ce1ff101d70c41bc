from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from audioml.pipeline import package_clips
from audioml.pipeline.context import Context
from audioml.pipeline.package_clips import (
    MAX_GOLDEN_BYTES,
    choose_golden,
    iter_reference,
    list_training_clips,
    read_example,
    read_golden,
)
from audioml.store.features import open_features
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits, write_manifest, write_splits
from audioml.store.training_clips import read_training_clips, write_training_clips

from .steps._train_space import make_workspace


def make_clips(labels: str, sizes: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"label": list(labels), "size_bytes": sizes})


def test_golden_clips_are_the_smallest_of_each_label_before_the_second_ones() -> None:
    chosen = choose_golden(make_clips("aaabbcdda", range(10, 19)))
    assert chosen["size_bytes"].tolist() == [10, 13, 15, 16, 11, 14, 17, 12]


def test_golden_clips_stop_at_their_size_but_there_is_one() -> None:
    third = MAX_GOLDEN_BYTES // 3
    assert len(choose_golden(make_clips("abcd", [third] * 4))) == 3
    assert len(choose_golden(make_clips("ab", [2 * MAX_GOLDEN_BYTES] * 2))) == 1


def test_clips_without_a_label_are_clips_too() -> None:
    chosen = choose_golden(pd.DataFrame({"label": [None, "a", None], "size_bytes": [1, 2, 3]}))
    assert chosen["size_bytes"].tolist() == [1, 2, 3]


def test_golden_clips_are_of_validation_and_have_features(tmp_path: Path) -> None:
    ctx = make_workspace(tmp_path)
    manifest = read_manifest(ctx.path(MANIFEST)).set_index("clip_id")
    split = read_splits(ctx.path(SPLITS)).set_index("clip_id")["split"]
    first = read_golden(ctx, [])[0][0]
    golden = read_golden(ctx, [first])
    assert len(golden) == 8
    assert first not in dict(golden)
    assert {split[clip_id] for clip_id, _ in golden} == {"validation"}
    assert [audio.decode() for _, audio in golden] == [f"audio {manifest.loc[i, 'path'][:2]}" for i, _ in golden]
    assert manifest.loc[[clip_id for clip_id, _ in golden], "label"].value_counts().tolist() == [4, 4]


def test_without_validation_they_are_of_training(tmp_path: Path) -> None:
    ctx = make_workspace(tmp_path)
    write_splits(ctx.path(SPLITS), read_splits(ctx.path(SPLITS)).assign(split="train"))
    assert len(read_golden(ctx, [])) == 8
    assert read_example(ctx, []) == read_golden(ctx, [])[0]


def test_reference_is_of_training_and_validation_and_names_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = make_workspace(tmp_path)
    manifest = read_manifest(ctx.path(MANIFEST)).set_index("clip_id")
    split = read_splits(ctx.path(SPLITS)).set_index("clip_id")["split"]
    clips = list(iter_reference(ctx, []))
    assert {clip.split for clip in clips} == {"train", "validation"}
    assert all(split[clip.clip_id] == clip.split for clip in clips)
    assert len(clips) == (split != "test").sum()
    assert all(clip.group is None for clip in clips)
    assert [clip.audio.decode() for clip in clips] == [f"audio {manifest.loc[c.clip_id, 'path'][:2]}" for c in clips]
    # Ids are hashes: the first in their order are drawn at random, and the same ones each time.
    monkeypatch.setattr(package_clips, "MAX_REFERENCE_CLIPS", 3)
    fewer = [clip for clip in iter_reference(ctx, [clips[0].clip_id]) if clip.split == "train"]
    assert [clip.clip_id for clip in fewer] == sorted(split.index[split == "train"].difference([clips[0].clip_id]))[:3]
    grouped = ctx.params.model_copy(update={"split": ctx.params.split.model_copy(update={"group": "label"})})
    labels = {
        (clip.group, manifest.loc[clip.clip_id, "label"]) for clip in iter_reference(replace(ctx, params=grouped), [])
    }
    assert len({group for group, _ in labels}) == 2


def test_the_clips_behind_a_model_are_those_that_had_features(tmp_path: Path) -> None:
    ctx = make_workspace(tmp_path)
    features = open_features(ctx.path("features"))
    manifest, splits = read_manifest(ctx.path(MANIFEST)), read_splits(ctx.path(SPLITS))
    without_features = "f" * 64
    write_manifest(
        ctx.path(MANIFEST), pd.concat([manifest, manifest.iloc[:1].assign(clip_id=without_features, path="x.wav")])
    )
    write_splits(ctx.path(SPLITS), pd.concat([splits, splits.iloc[:1].assign(clip_id=without_features)]))
    example, golden = read_example(ctx, []), read_golden(ctx, [])
    write_training_clips(ctx.path("t.parquet"), list_training_clips(ctx, features, {example[0], *dict(golden)}))
    clips = read_training_clips([ctx.path("t.parquet")])
    assert clips["path"].tolist() == manifest["path"].tolist()
    assert dict(zip(clips["clip_id"], clips["split"], strict=True)) == splits.set_index("clip_id")["split"].to_dict()
    assert set(clips["features"]) == {"a.arrow"}
    assert clips["group"].isna().all()
    assert set(clips.loc[clips["packaged"], "clip_id"]) == {example[0], *dict(golden)}

    by_format = ctx.params.split.model_copy(update={"group": "format"})
    grouped = Context(ctx.workspace, ctx.params.model_copy(update={"split": by_format}))
    assert set(list_training_clips(grouped, features, [])["group"]) == {"WAV"}
