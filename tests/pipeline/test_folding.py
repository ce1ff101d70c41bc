"""Folds: laws that hold for any manifest, and the errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.errors import DatasetError, ParamsError
from audioml.params import SplitParams, parse_section
from audioml.pipeline.folding import assign_folds, check_folds
from audioml.pipeline.splitting import assign_splits, check_splits
from audioml.store.manifest import read_splits, write_splits
from audioml.store.parts import list_folds, splits_of


def make_manifest(n_labels: int = 4, n_speakers: int = 6, takes: int = 4) -> pd.DataFrame:
    rows = [
        {"label": f"word{label}", "speaker": f"s{speaker}", "index": take, "part": 10 * (speaker % 3)}
        for label in range(n_labels)
        for speaker in range(n_speakers)
        for take in range(takes)
    ]
    manifest = pd.DataFrame(rows)
    manifest.insert(0, "clip_id", [f"{i * 7919 % 100_003:064x}" for i in range(len(rows))])
    manifest.insert(1, "path", [f"clips/{i}.wav" for i in range(len(rows))])
    return manifest


@settings(max_examples=15, deadline=None)
@given(
    st.integers(2, 4),
    st.integers(6, 12),
    st.integers(2, 5),
    st.sampled_from([None, "speaker"]),
    st.sampled_from([None, "index == 0"]),
    st.integers(0, 2**31),
)
def test_every_clip_is_held_out_once_and_no_group_is_on_two_sides(
    n_labels: int, n_speakers: int, folds: int, group: str | None, test: str | None, seed: int
) -> None:
    manifest = make_manifest(n_labels, n_speakers).assign(
        speaker=lambda m: m["speaker"] if test is None else m["speaker"] + (m["index"] == 0).map({True: "t", False: ""})
    )
    splits = assign_folds(manifest, SplitParams(folds=folds, group=group, test=test), seed)
    check_splits(manifest, splits, group)
    check_folds(manifest, splits, group)
    assert [fold.name for fold in list_folds(splits)] == [str(i + 1) for i in range(folds)]
    held_out: list[str] = []
    for fold in list_folds(splits):
        own = splits_of(splits, fold).merge(manifest, on="clip_id", suffixes=("", "_"))
        parts = {name: own[own["split"] == name] for name in ("train", "validation", "test")}
        held_out += parts["test"]["clip_id"].tolist()
        assert all(set(part["label"]) for part in parts.values())
        assert set(parts["train"]["label"]) == set(manifest["label"])
        if group:
            assert (own.groupby(group)["split"].nunique() == 1).all()
    in_no_fold = splits.loc[splits["fold"].isna(), "clip_id"].tolist()
    assert sorted(held_out + in_no_fold) == sorted(manifest["clip_id"])
    final = splits.loc[splits["split"] == "test", "clip_id"]
    assert set(final) == set(in_no_fold if test else splits.loc[splits["fold"] == folds - 1, "clip_id"])
    shuffled = manifest.sample(frac=1, random_state=1)
    again = assign_folds(shuffled, SplitParams(folds=folds, group=group, test=test), seed)
    pd.testing.assert_frame_equal(again.set_index("clip_id").loc[splits["clip_id"]].reset_index(), splits)


def test_a_column_gives_a_fold_for_each_value() -> None:
    manifest = make_manifest()
    splits = assign_folds(manifest, SplitParams(folds="part"), 0)
    assert [fold.name for fold in list_folds(splits)] == ["0", "10", "20"]
    assert (splits["fold_name"] == manifest["part"].astype(str)).all()
    assert set(manifest.loc[splits["split"] == "test", "part"]) == {20}


def test_drawn_folds_have_the_shares_of_the_labels() -> None:
    manifest = make_manifest(n_labels=3, n_speakers=5, takes=4)
    splits = assign_folds(manifest, SplitParams(folds=5), 1)
    counts = pd.crosstab(splits["fold"], manifest["label"])
    assert (counts == 4).all(axis=None)


def test_without_folds_nothing_is_different() -> None:
    manifest = make_manifest()
    params = SplitParams(group="speaker")
    pd.testing.assert_frame_equal(assign_folds(manifest, params, 3), assign_splits(manifest, params, 3))


def test_folds_survive_the_file(tmp_path: Any) -> None:
    splits = assign_folds(make_manifest(), SplitParams(folds="speaker", test="index == 0"), 0)
    write_splits(tmp_path / "splits.parquet", splits)
    read = read_splits(tmp_path / "splits.parquet")
    assert list_folds(read) == list_folds(splits)
    for fold in list_folds(splits):
        expected, found = splits_of(splits, fold), splits_of(read, fold)
        assert found["split"].tolist() == expected["split"].tolist()


def test_names_of_items_are_safe_and_differ() -> None:
    manifest = make_manifest(n_speakers=3).assign(
        speaker=lambda m: m["speaker"].map({"s0": "a/b", "s1": "a b", "s2": "c"})
    )
    items = [fold.item for fold in list_folds(assign_folds(manifest, SplitParams(folds="speaker"), 0))]
    assert items[2] == "fold-c"
    assert len(set(items)) == 3
    assert not any(set("/ ") & set(item) for item in items)


@pytest.mark.parametrize(
    ("params", "error", "words"),
    [
        (SplitParams(folds="speeker"), ParamsError, ["'split.folds' is 'speeker'", "Did you mean 'speaker'"]),
        (SplitParams(folds="clip_id"), ParamsError, ["column of 128 values", "100 are allowed"]),
        (SplitParams(folds="index", group="speaker"), DatasetError, ["Leak: 8 of 8", "split.folds ('index')"]),
        (SplitParams(folds=9, group="speaker"), DatasetError, ["9 folds cannot be drawn from 8 values of 'speaker'"]),
        (SplitParams(folds="label"), DatasetError, ["word3", "no clips to train on"]),
    ],
)
def test_errors(params: SplitParams, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        assign_folds(make_manifest(n_speakers=8), params, 0)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(("split", "words"), [({"folds": 1}, "2 or more"), ({"fold": "a", "folds": "a"}, "keep folds")])
def test_params_that_contradict_each_other(split: dict[str, Any], words: str) -> None:
    with pytest.raises(ParamsError, match=words):
        parse_section(SplitParams, split, "split")


def test_clips_that_share_no_set_of_labels_are_still_dealt_evenly() -> None:
    manifest = make_manifest(n_labels=2, n_speakers=2, takes=3)
    labels = [["all", f"own{i}"] if i else ["all"] for i in range(len(manifest))]
    with pytest.raises(DatasetError, match="own1"):
        assign_folds(manifest, SplitParams(folds=3), 0, labels)
    shared = [["all", *(f"label{j}" for j in range(4) if i >> j & 1)] for i in range(len(manifest))]
    splits = assign_folds(manifest, SplitParams(folds=3), 0, shared)
    assert splits["fold"].value_counts().tolist() == [4, 4, 4]


def test_a_fold_whose_rest_lacks_a_label_is_named() -> None:
    manifest = make_manifest().query("label != 'word1' or speaker == 's1'").reset_index(drop=True)
    with pytest.raises(DatasetError, match=r"with fold 's1' held out: .*word1"):
        assign_folds(manifest, SplitParams(folds="speaker"), 0)


@pytest.mark.parametrize("test", [None, "index == 0"])
def test_clips_for_training_only_are_trained_on_by_every_model(test: str | None) -> None:
    manifest = make_manifest().assign(voice=None, group=lambda m: m["speaker"])
    made = manifest.iloc[::3].index
    manifest.loc[made, ["speaker", "voice", "group"]] = [None, "robot", "robot"]
    params = SplitParams(folds="speaker", test=test, train_only="voice == 'robot'", validation_share=0.3)
    splits = assign_folds(manifest, params, 0)
    assert splits["clip_id"].tolist() == manifest["clip_id"].tolist()
    assert set(splits.loc[made, "split"]) == {"train"}
    assert splits.loc[made, "fold"].isna().all()
    assert [fold.name for fold in list_folds(splits)] == sorted(manifest["speaker"].dropna().unique())
    for fold in list_folds(splits):
        assert set(splits_of(splits, fold).loc[made, "split"]) == {"train"}
    # The others are drawn as if there were no more.
    alone = manifest.drop(made).reset_index(drop=True)
    expected = assign_folds(alone, params.model_copy(update={"train_only": None}), 0)
    assert splits.drop(made)["split"].tolist() == expected["split"].tolist()
    assert splits.drop(made)["validates"].tolist() == expected["validates"].tolist()


def test_clips_for_training_only_keep_groups_whole() -> None:
    manifest = make_manifest()
    params = SplitParams(test="speaker == 's0'", group="speaker", train_only="index == 0")
    with pytest.raises(DatasetError, match=r"Leak: .* of 'speaker' stand in more than one split"):
        assign_folds(manifest, params, 0)
    with pytest.raises(DatasetError, match=r"split\.train_only: 'index > 9' selects none of 96 clips"):
        assign_folds(manifest, params.model_copy(update={"train_only": "index > 9"}), 0)
    with pytest.raises(ParamsError, match=r"'split\.train_only' is 'indx > 9', but the manifest has no column 'indx'"):
        assign_folds(manifest, params.model_copy(update={"train_only": "indx > 9"}), 0)


def test_clips_for_training_only_survive_a_file(tmp_path: Path) -> None:
    manifest = make_manifest().assign(made=lambda m: m["index"] == 0)
    splits = assign_folds(manifest, SplitParams(folds=3, train_only="made"), 0)
    write_splits(tmp_path / "splits.parquet", splits)
    again = read_splits(tmp_path / "splits.parquet")
    for fold in list_folds(splits):
        pd.testing.assert_frame_equal(splits_of(again, fold), splits_of(splits, fold))
