"""Shares of the training clips: laws that hold for any manifest, and the errors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.errors import DatasetError, ParamsError
from audioml.params import SplitParams, parse_section
from audioml.pipeline.folding import assign_folds
from audioml.pipeline.train_shares import assign_shares
from audioml.store.parts import list_shares, splits_of

from .test_folding import make_manifest


def draw(
    manifest: pd.DataFrame, params: SplitParams, seed: int, labels: Sequence[Sequence[str]] | None = None
) -> pd.DataFrame:
    splits = assign_folds(manifest, params, seed, labels)
    return assign_shares(manifest, splits, params, seed, labels)


def rows_of(splits: pd.DataFrame, split: str) -> list[set[int]]:
    """Return the rows of a split for each share, and for all clips."""
    tables = [*(splits_of(splits, part) for part in list_shares(splits)), splits]
    return [set(table.index[table["split"] == split]) for table in tables]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(2, 4),
    st.integers(7, 12),
    st.lists(st.sampled_from([0.05, 0.1, 0.25, 0.5, 0.8]), min_size=1, max_size=3, unique=True),
    st.sampled_from([{}, {"group": "speaker"}, {"folds": 3}, {"folds": 3, "group": "speaker"}]),
    st.integers(0, 2**31),
)
def test_shares_are_nested_with_every_label_and_whole_groups(
    n_labels: int, n_speakers: int, shares: list[float], more: dict[str, object], seed: int
) -> None:
    manifest = make_manifest(n_labels, n_speakers)
    params = SplitParams.model_validate({"train_shares": shares, "test_share": 0.2, **more})
    try:
        splits = draw(manifest, params, seed)
    except DatasetError:
        # One speaker cannot be less.
        assert params.group
        return
    assert [part.name for part in list_shares(splits)] == [str(share) for share in sorted(shares)]
    train = rows_of(splits, "train")
    for smaller, larger in pairwise(train):
        assert smaller < larger
    for split in ("validation", "test"):
        assert all(rows == rows_of(splits, split)[-1] for rows in rows_of(splits, split))
    for share, rows in zip(sorted(shares), train, strict=False):
        inside, all_clips = manifest.loc[sorted(rows)], manifest.loc[sorted(train[-1])]
        assert set(inside["label"]) == set(manifest["label"])
        if params.group is None:
            wanted = (share * all_clips["label"].value_counts()).clip(lower=1)
            assert ((inside["label"].value_counts() - wanted).abs() <= 0.5).all()
        else:
            whole = manifest.groupby("speaker").size()[inside["speaker"].unique()].sum()
            assert len(inside) == whole
            assert len(inside) == pytest.approx(share * len(all_clips), abs=0.5 * n_labels * 4 + 1e-6) or (
                inside["speaker"].nunique() == 1
            )
    shuffled = manifest.sample(frac=1, random_state=1)
    again = draw(shuffled, params, seed).set_index("clip_id").loc[splits["clip_id"]].reset_index()
    pd.testing.assert_frame_equal(again, splits)


def test_segments_of_a_recording_stay_together() -> None:
    manifest = make_manifest().assign(path=lambda m: m["label"] + m["speaker"])
    splits = draw(manifest, SplitParams(train_shares=[0.3]), 1)
    ((_, train),) = [rows_of(splits, "train")]
    inside = manifest.loc[sorted(rows_of(splits, "train")[0])]
    assert 0 < len(inside) < len(train)
    assert (inside.groupby("path").size() == 4).all()


def test_every_tag_is_kept() -> None:
    manifest = make_manifest(n_labels=2, n_speakers=20, takes=4)
    has = np.random.default_rng(0).random((len(manifest), 3)) < [0.5, 0.2, 0.05]
    tags = [[name for name, there in zip(("dog", "rain", "siren"), row, strict=True) if there] for row in has]
    splits = draw(manifest, SplitParams(train_shares=[0.1, 0.5]), 0, tags)
    smallest, half, everything = (sorted(rows) for rows in rows_of(splits, "train"))
    assert (has[smallest].sum(axis=0) >= 1).all()
    assert has[half].sum(axis=0) == pytest.approx(has[everything].sum(axis=0) / 2, abs=1.5)


def test_without_shares_nothing_is_different() -> None:
    manifest, params = make_manifest(), SplitParams(group="speaker")
    splits = assign_folds(manifest, params, 3)
    pd.testing.assert_frame_equal(assign_shares(manifest, splits, params, 3), splits)
    assert list_shares(splits) == []


def test_a_share_that_could_not_be_smaller_is_named() -> None:
    params = SplitParams(train_shares=[0.1, 0.2], test="index == 0", validation_share=0)
    with pytest.raises(
        DatasetError, match=r"train_shares: 0\.1 would have the same 4 training clips as 0\.2.*Leave 0\.1 out"
    ):
        draw(make_manifest(n_speakers=2, takes=2), params.model_copy(update={"train_shares": [0.1, 0.2]}), 0)
    grouped = SplitParams(train_shares=[0.1], group="speaker", test="speaker == 's0'", validation_share=0)
    with pytest.raises(DatasetError, match=r"as all: .*values of 'speaker' stay whole"):
        draw(make_manifest(n_speakers=2), grouped, 0)


@pytest.mark.parametrize(
    ("shares", "words"),
    [
        ([0.5, 1], "train_shares.*1 is no share between 0 and 1"),
        ([0.0], "0 is no share between 0 and 1"),
        ([0.5, 0.1, 0.5], "0.5 stands there twice"),
        (0.5, "train_shares"),
        (["half"], "train_shares"),
    ],
)
def test_shares_that_are_none(shares: object, words: str) -> None:
    with pytest.raises(ParamsError, match=words):
        parse_section(SplitParams, {"train_shares": shares}, "split")
