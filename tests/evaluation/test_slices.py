"""Slices against pandas."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from audioml.evaluation.intervals import bootstrap_interval
from audioml.evaluation.slices import measure_slices, slice_columns


@pytest.fixture
def manifest() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    n = 300
    return pd.DataFrame(
        {
            "clip_id": [f"{i:064x}" for i in range(n)],
            "path": [f"{i}.wav" for i in range(n)],
            "label": generator.choice(["yes", "no"], n),
            "duration_s": generator.uniform(0.2, 2, n),
            "sample_rate": generator.choice([8000, 16000], n),
            "channels": 1,
            "format": "WAV",
            "rms_dbfs": generator.normal(-20, 4, n),
            "speaker": generator.choice(["ann", "bob", "cem", None], n),
            "take": np.arange(n),
            "room": "studio",
        }
    )


@pytest.fixture
def scores(manifest) -> np.ndarray:
    generator = np.random.default_rng(1)
    words = generator.integers(1, 8, len(manifest))
    return np.stack([generator.binomial(words, 0.7), words], axis=1).astype(float)


def measured(manifest, scores, higher_is_better=True, max_values=50):
    generator = np.random.default_rng(0)

    def interval_of(chosen):
        return bootstrap_interval(scores[chosen], 200, 0.95, generator)

    return measure_slices(manifest, interval_of, max_values, higher_is_better)


def test_values_agree_with_groupby(manifest, scores):
    table = measured(manifest, scores)
    joined = manifest.assign(numerator=scores[:, 0], denominator=scores[:, 1]).fillna({"speaker": "(none)"})
    for column in ("speaker", "sample_rate"):
        sums = joined.groupby(column)[["numerator", "denominator"]].sum()
        expected = (sums["numerator"] / sums["denominator"]).rename(str)
        got = table[table["slice"] == column].set_index("value")
        assert got["metric"].to_dict() == pytest.approx(expected.to_dict())
        assert got["n"].to_dict() == {str(k): v for k, v in joined[column].value_counts().items()}
    assert (table["low"] <= table["metric"]).all()
    assert (table["metric"] <= table["high"]).all()


def test_what_is_a_slice(manifest):
    columns = slice_columns(manifest, max_values=50)
    # take has too many values; room, channels and format have one; label has its own table.
    assert list(columns) == ["speaker", "sample_rate", "duration", "level"]
    assert list(slice_columns(manifest, max_values=3)) == ["sample_rate", "duration", "level"]


def test_terciles_are_of_equal_size_and_named_by_their_bounds(manifest):
    duration = slice_columns(manifest, max_values=50)["duration"]
    assert sorted(duration.value_counts()) == [100, 100, 100]
    low, high = np.quantile(manifest["duration_s"], [1 / 3, 2 / 3])
    assert set(duration[manifest["duration_s"] < low]) == {f"short: up to {low:.3g} s"}
    assert set(duration[manifest["duration_s"] > high]) == {f"long: above {high:.3g} s"}


def test_equal_durations_are_no_slices(manifest):
    assert "duration" not in slice_columns(manifest.assign(duration_s=1.0), max_values=50)


def test_worst_comes_first(manifest, scores):
    assert measured(manifest, scores)["metric"].is_monotonic_increasing
    assert measured(manifest, scores, higher_is_better=False)["metric"].is_monotonic_decreasing


def test_no_slices_is_an_empty_table(manifest, scores):
    bare = manifest[["clip_id", "path", "label"]]
    assert measured(bare, scores).empty


def test_slices_that_differ_from_the_whole_are_marked(manifest):
    right = np.where(manifest["speaker"] == "ann", np.arange(300) % 10 > 5, np.arange(300) % 10 > 0)
    scores = np.stack([right, np.ones(300)], axis=1).astype(float)
    table = measured(manifest, scores).set_index(["slice", "value"])
    assert table.loc[("speaker", "ann"), "differs"] == "worse"
    excluded = (table["low"] > right.mean()) | (table["high"] < right.mean())
    assert ((table["differs"] != "") == excluded).all()
    errors = measured(manifest, np.stack([~right, np.ones(300)], axis=1), higher_is_better=False)
    assert errors.set_index(["slice", "value"]).loc[("speaker", "ann"), "differs"] == "worse"
