"""Splits: laws that hold for any manifest, and the errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.errors import DatasetError, ParamsError
from audioml.params import SplitParams
from audioml.pipeline.splitting import assign_splits, check_splits


def make_manifest(n_labels: int = 4, n_speakers: int = 12, takes: int = 3) -> pd.DataFrame:
    rows = [
        {"label": f"word{label}", "speaker": f"s{speaker}", "index": take, "fold": speaker % 5 + 1}
        for label in range(n_labels)
        for speaker in range(n_speakers)
        for take in range(takes)
    ]
    manifest = pd.DataFrame(rows)
    manifest.insert(0, "clip_id", [f"{i * 7919 % 100_003:064x}" for i in range(len(rows))])
    manifest.insert(1, "path", [f"clips/{i}.wav" for i in range(len(rows))])
    return manifest


def split_of(manifest: pd.DataFrame, params: SplitParams, seed: int = 0) -> pd.DataFrame:
    return manifest.merge(assign_splits(manifest, params, seed), on="clip_id", suffixes=("", "_of_split"))


@st.composite
def grouped_manifests(draw: st.DrawFn) -> pd.DataFrame:
    n = draw(st.integers(20, 120))
    labels = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    groups = draw(st.lists(st.integers(0, 15), min_size=n, max_size=n))
    return pd.DataFrame(
        {"clip_id": [f"{i:064x}" for i in range(n)], "label": [f"l{v}" for v in labels], "group": groups}
    )


@settings(max_examples=150, deadline=None)
@given(grouped_manifests(), st.floats(0.05, 0.5), st.floats(0.0, 0.4), st.integers(0, 2**31))
def test_no_manifest_leaks(manifest: pd.DataFrame, test_share: float, validation_share: float, seed: int) -> None:
    params = SplitParams(group="group", test_share=test_share, validation_share=validation_share)
    try:
        splits = assign_splits(manifest, params, seed)
    except DatasetError:
        return
    assert splits["clip_id"].tolist() == manifest["clip_id"].tolist()
    assert set(splits["split"]) <= {"train", "validation", "test"}
    assert (splits["split"] == "test").any()
    assert (
        manifest["group"].groupby(manifest["group"]).size().size
        == (splits["split"].groupby(manifest["group"].to_numpy()).nunique() == 1).sum()
    )
    assert set(manifest["label"][(splits["split"] == "train").to_numpy()]) == set(manifest["label"])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(seed: int, random) -> None:  # type: ignore[no-untyped-def]
    manifest = make_manifest(takes=2)
    shuffled = manifest.iloc[random.sample(range(len(manifest)), len(manifest))]
    for params in (SplitParams(), SplitParams(group="speaker")):
        expected = assign_splits(manifest, params, seed).set_index("clip_id")
        got = assign_splits(shuffled, params, seed).set_index("clip_id")
        pd.testing.assert_frame_equal(got.loc[expected.index], expected)


def test_seed_decides() -> None:
    manifest = make_manifest()
    params = SplitParams(group="speaker")
    pd.testing.assert_frame_equal(assign_splits(manifest, params, 3), assign_splits(manifest, params, 3))
    assert not assign_splits(manifest, params, 3).equals(assign_splits(manifest, params, 4))


def test_drawn_shares_are_stratified() -> None:
    manifest = make_manifest(n_labels=5, n_speakers=20, takes=5)
    table = split_of(manifest, SplitParams(test_share=0.2, validation_share=0.1))
    shares = pd.crosstab(table["label"], table["split"], normalize="index")
    np.testing.assert_allclose(shares["test"], 0.2)
    np.testing.assert_allclose(shares["validation"], 0.08)


def test_drawn_groups_come_near_the_shares() -> None:
    manifest = make_manifest(n_labels=5, n_speakers=40, takes=2)
    table = split_of(manifest, SplitParams(group="speaker", test_share=0.2, validation_share=0.1))
    speakers = table.groupby("split")["speaker"].nunique()
    assert speakers["test"] == 8
    assert speakers["validation"] == 3


def test_groups_of_one_label_each_come_near_the_shares() -> None:
    generator = np.random.default_rng(1)
    source = np.repeat(np.arange(200), generator.integers(1, 5, 200))
    manifest = pd.DataFrame(
        {"clip_id": [f"{i:064x}" for i in range(len(source))], "label": source % 10, "source": source}
    )
    table = split_of(manifest, SplitParams(group="source", test_share=0.2, validation_share=0.1))
    shares = pd.crosstab(table["label"], table["split"], normalize="index")
    assert shares["test"].between(0.1, 0.3).all()
    assert table["split"].eq("test").mean() == pytest.approx(0.2, abs=0.03)


def test_query_fixes_the_test_set() -> None:
    table = split_of(make_manifest(takes=10), SplitParams(test="index < 5"))
    assert (table["index"] < 5).equals(table["split"] == "test")
    assert table["fold_of_split"].isna().all()


def test_query_may_use_text() -> None:
    table = split_of(make_manifest(), SplitParams(test="speaker.str.endswith('1') or speaker == 's2'"))
    assert set(table.loc[table["split"] == "test", "speaker"]) == {"s1", "s11", "s2"}


def test_highest_fold_is_tested() -> None:
    table = split_of(make_manifest(), SplitParams(fold="fold", group="speaker"))
    assert set(table.loc[table["split"] == "test", "fold"]) == {5}
    assert (table["fold"] == table["fold_of_split"]).all()


def test_folds_in_words_are_numbered() -> None:
    manifest = make_manifest().assign(fold=lambda m: m["fold"].map("abcdef".__getitem__))
    table = split_of(manifest, SplitParams(fold="fold", test="fold == 'b'"))
    assert sorted(set(zip(table["fold"], table["fold_of_split"], strict=True))) == list(
        zip("bcdef", range(5), strict=True)
    )
    assert set(table.loc[table["split"] == "test", "fold"]) == {"b"}


def test_every_label_is_in_every_drawn_split_when_there_are_three_clips() -> None:
    table = split_of(make_manifest(n_speakers=1, takes=3), SplitParams())
    assert (pd.crosstab(table["label"], table["split"]) == 1).all().all()


def test_no_validation_set_when_its_share_is_nothing() -> None:
    splits = assign_splits(make_manifest(), SplitParams(validation_share=0.0), 0)
    assert set(splits["split"]) == {"train", "test"}


@pytest.mark.parametrize(
    ("params", "error", "words"),
    [
        (SplitParams(test="indx < 5"), ParamsError, ["'indx'", "Did you mean 'index'?", "Columns: clip_id, path"]),
        (SplitParams(test="index <"), ParamsError, ["'index <'", "no valid pandas query", "index < 5"]),
        (SplitParams(test="index + 1"), ParamsError, ["'index + 1'", "true or false"]),
        (SplitParams(test="1 < 2"), ParamsError, ["'1 < 2'", "true or false"]),
        (SplitParams(test="speaker < 5"), ParamsError, ["'speaker < 5'", "no valid pandas query"]),
        (SplitParams(test="@np.zeros(3)"), ParamsError, ["@np"]),
        (SplitParams(test="index > 50"), DatasetError, ["selects none of 144 clips", "index (int64) is 0, 1, 2"]),
        (SplitParams(test="speaker == 5"), DatasetError, ["selects none", "speaker (str) is s"]),
        (SplitParams(test="index >= 0"), DatasetError, ["selects all of 144 clips"]),
        (SplitParams(group="speker"), ParamsError, ["'split.group' is 'speker'", "Did you mean 'speaker'?"]),
        (SplitParams(fold="folds"), ParamsError, ["'split.fold' is 'folds'", "Did you mean 'fold'?"]),
        (SplitParams(test="index == 0", group="speaker"), DatasetError, ["Leak: 12 of 12", "'speaker'", "s0, s1, s10"]),
        (SplitParams(fold="index", group="speaker"), DatasetError, ["Leak: 12 of 12", "split.fold ('index')"]),
        (SplitParams(test="label == 'word1'"), DatasetError, ["1 of 4 labels have no clips to train on", "word1"]),
        (SplitParams(test_share=0.0), ParamsError, ["no test set", "split.test_share"]),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(params: SplitParams, error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        assign_splits(make_manifest(), params, 0)
    for word in words:
        assert word in str(caught.value)


def test_too_few_clips() -> None:
    manifest = make_manifest(n_speakers=1, takes=2)
    with pytest.raises(DatasetError, match=r"split.validation_share: the label 'word0' has too few clips: 1"):
        assign_splits(manifest, SplitParams(), 0)


def test_too_few_groups() -> None:
    manifest = make_manifest(n_speakers=2)
    with pytest.raises(DatasetError, match=r"split.validation_share: there are too few groups: 1"):
        assign_splits(manifest, SplitParams(group="speaker"), 0)


def test_one_label_only() -> None:
    with pytest.raises(DatasetError, match="at least 2 labels, but the manifest has word0 only"):
        assign_splits(make_manifest(n_labels=1), SplitParams(), 0)


def test_no_clips_at_all() -> None:
    with pytest.raises(DatasetError, match="no clips"):
        assign_splits(make_manifest().iloc[:0], SplitParams(), 0)


def test_groups_with_gaps() -> None:
    manifest = make_manifest()
    manifest.loc[4, "speaker"] = None
    with pytest.raises(DatasetError, match=r"'speaker' is empty for 1 of 144 clips \(clips/4.wav\)"):
        assign_splits(manifest, SplitParams(group="speaker"), 0)


def make_segments(n_recordings: int = 40, most: int = 6) -> pd.DataFrame:
    """Recordings of one label each, cut into 1 to `most` segments."""
    recording = np.repeat(np.arange(n_recordings), np.arange(n_recordings) % most + 1)
    n = len(recording)
    return pd.DataFrame(
        {
            "clip_id": [f"{i * 7919 % 100_003:064x}" for i in range(n)],
            "path": [f"{number:02}.wav" for number in recording],
            "label": [f"l{number % 3}" for number in recording],
            "start_s": np.arange(n) % 4 * 10.0,
            "fold": recording % 4,
        }
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(3, 60), st.integers(2, 8), st.integers(0, 2**31), st.sampled_from([None, "fold"]))
def test_segments_of_a_recording_stay_together(n_recordings: int, most: int, seed: int, fold: str | None) -> None:
    manifest = make_segments(n_recordings, most)
    try:
        splits = assign_splits(manifest, SplitParams(fold=fold), seed)
    except DatasetError:
        return
    assert (splits["split"].groupby(manifest["path"]).nunique() == 1).all()
    assert splits.equals(assign_splits(manifest, SplitParams(fold=fold, group="path"), seed))


def test_a_test_set_that_cuts_recordings_is_refused() -> None:
    with pytest.raises(DatasetError, match=r"Leak: segments of 27 of 40 recordings stand both .*split.test \('start_s"):
        assign_splits(make_segments(), SplitParams(test="start_s == 0"), 0)


def test_too_few_recordings() -> None:
    with pytest.raises(DatasetError, match="too few groups: 3 are left"):
        assign_splits(make_segments(3, 2), SplitParams(), 0)


def test_check_finds_a_recording_in_two_splits() -> None:
    manifest = make_segments()
    splits = assign_splits(manifest, SplitParams(), 0).iloc[::-1]
    check_splits(manifest, splits, None)
    splits.loc[1, "split"] = "test" if splits.loc[2, "split"] == "train" else "train"
    with pytest.raises(DatasetError, match=r"Leak: 1 values of 'path' stand in more than one split: 01\.wav"):
        check_splits(manifest, splits, None)


def test_check_finds_a_leak() -> None:
    manifest = make_manifest()
    splits = assign_splits(manifest, SplitParams(group="speaker"), 0)
    first = splits.index[(manifest["speaker"] == manifest["speaker"][0]).to_numpy()][0]
    splits.loc[first, "split"] = "test" if splits.loc[first, "split"] == "train" else "train"
    with pytest.raises(DatasetError, match="Leak: 1 values of 'speaker' stand in more than one split: s0"):
        check_splits(manifest, splits, "speaker")
    check_splits(manifest, splits, None)
    with pytest.raises(DatasetError, match="exactly once"):
        check_splits(manifest, splits.iloc[1:], None)


def draw_tags(n: int, seed: int = 0) -> tuple[pd.DataFrame, list[list[str]]]:
    """Clips with one tag in two, one in five, one in twenty; a third have none of them."""
    rng = np.random.default_rng(seed)
    has = rng.random((n, 3)) < [0.5, 0.2, 0.05]
    tags = [[name for name, there in zip(("dog", "rain", "siren"), row, strict=True) if there] for row in has]
    ids = [f"{i * 7919 % 100_003:064x}" for i in range(n)]
    return pd.DataFrame({"clip_id": ids, "label": [";".join(own) or "(none)" for own in tags]}), tags


@pytest.mark.parametrize("seed", range(3))
def test_each_tag_has_its_share_in_each_split(seed: int) -> None:
    manifest, tags = draw_tags(600, seed)
    splits = assign_splits(manifest, SplitParams(test_share=0.2, validation_share=0.25), seed, tags, 1)
    for name, wanted in (("test", 0.2), ("validation", 0.2), ("train", 0.6)):
        here = (splits["split"] == name).to_numpy()
        for tag in ("dog", "rain", "siren", None):
            has = np.array([tag in own if tag else not own for own in tags])
            assert (has & here).sum() == pytest.approx(wanted * has.sum(), abs=0.03 * has.sum() + 2)


def test_groups_of_tagged_clips_stay_whole() -> None:
    manifest, tags = draw_tags(300)
    manifest["group"] = np.arange(300) // 6
    splits = assign_splits(manifest, SplitParams(group="group"), 0, tags, 1)
    assert splits["split"].groupby(manifest["group"]).nunique().max() == 1
    assert set(splits["split"]) == {"train", "validation", "test"}


def test_a_tag_without_training_clips_is_named_but_none_is_no_tag() -> None:
    manifest, tags = draw_tags(200)
    manifest["hard"] = [own in ([], ["siren"]) or "siren" in own for own in tags]
    with pytest.raises(DatasetError, match=r"1 of 4 labels have no clips to train on.*: siren\."):
        assign_splits(manifest, SplitParams(test="hard"), 0, tags, 1)


def test_one_tag_is_enough_where_the_task_says_so() -> None:
    manifest, tags = draw_tags(60)
    ones = [["dog"] if own else [] for own in tags]
    assert set(assign_splits(manifest, SplitParams(), 0, ones, 1)["split"]) == {"train", "validation", "test"}
    with pytest.raises(DatasetError, match="at least 2 labels, but the manifest has dog only"):
        assign_splits(manifest, SplitParams(), 0, ones, 2)
