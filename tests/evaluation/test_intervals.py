"""Intervals against scipy's bootstrap and closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from audioml.evaluation.intervals import MIN_GROUPS, bootstrap_interval, bootstrap_metric, group_clips


def interval(scores, samples=4000, confidence=0.95, seed=0):
    return bootstrap_interval(scores, samples, confidence, np.random.default_rng(seed))


def accuracy_scores(right: int, n: int) -> np.ndarray:
    return np.stack([np.arange(n) < right, np.ones(n)], axis=1).astype(float)


def test_accuracy_agrees_with_the_binomial_distribution():
    got = interval(accuracy_scores(850, 1000), samples=20_000)
    low, high = stats.binom.ppf([0.025, 0.975], 1000, 0.85) / 1000
    assert got.value == 0.85
    assert got.n == 1000
    assert got.low == pytest.approx(low, abs=0.0015)
    assert got.high == pytest.approx(high, abs=0.0015)


def test_ratio_agrees_with_scipy():
    generator = np.random.default_rng(5)
    words = generator.integers(1, 20, 200)
    errors = generator.binomial(words, 0.2)
    got = interval(np.stack([errors, words], axis=1), samples=10_000)
    expected = stats.bootstrap(
        (errors, words),
        lambda e, w, axis: e.sum(axis=axis) / w.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=10_000,
        method="percentile",
        rng=np.random.default_rng(6),
    ).confidence_interval
    assert got.value == errors.sum() / words.sum()
    assert got.low == pytest.approx(expected.low, abs=0.002)
    assert got.high == pytest.approx(expected.high, abs=0.002)


@pytest.mark.parametrize("n", [1, 10, 300])
def test_certainty_is_not_claimed_where_all_clips_are_right_or_wrong(n):
    right, wrong = interval(accuracy_scores(n, n)), interval(accuracy_scores(0, n))
    # Clopper and Pearson at the edge: (alpha / 2) ** (1 / n).
    assert right.low == pytest.approx(0.025 ** (1 / n))
    assert (right.value, right.high) == (1, 1)
    assert wrong.high == pytest.approx(1 - 0.025 ** (1 / n))
    assert (wrong.value, wrong.low) == (0, 0)


def test_it_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(7)
    hits = 0
    for _ in range(300):
        scores = np.stack([generator.random(200) < 0.8, np.ones(200)], axis=1)
        got = bootstrap_interval(scores, 500, 0.9, generator)
        hits += got.low <= 0.8 <= got.high
    assert 0.84 <= hits / 300 <= 0.96


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=60), st.integers(0, 99))
def test_the_value_lies_within_and_the_seed_decides(pairs, seed):
    scores = np.array([(min(a, b), b) for a, b in pairs], dtype=float)
    got = interval(scores, samples=500, seed=seed)
    assert 0 <= got.low <= got.high <= 1
    assert got.low <= got.value + 1e-12
    assert got.value <= got.high + 1e-12
    assert got == interval(scores, samples=500, seed=seed)


def test_more_confidence_is_wider():
    scores = accuracy_scores(80, 100)
    narrow, wide = interval(scores, confidence=0.8), interval(scores, confidence=0.99)
    assert wide.low < narrow.low < narrow.high < wide.high


def test_nothing_to_divide_by_is_not_a_number():
    got = interval(np.zeros((3, 2)))
    assert np.isnan([got.value, got.low, got.high]).all()
    assert got.n == 3


def test_any_metric_has_the_interval_of_a_ratio_where_it_is_one():
    scores = np.random.default_rng(2).integers(0, 2, (300, 1)) * [1.0, 0.0] + [0.0, 1.0]
    expected = interval(scores, samples=10_000)

    def score(counts):
        return counts @ scores[:, 0] / (counts @ scores[:, 1])

    got = bootstrap_metric(score, 300, 10_000, 0.95, np.random.default_rng(0))
    assert (got.value, got.n) == (expected.value, 300)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=0.004)


def test_clips_without_the_metric_have_no_interval():
    got = bootstrap_metric(lambda counts: np.full(len(counts), np.nan), 5, 100, 0.95, np.random.default_rng(0))
    assert np.isnan([got.value, got.low, got.high]).all()


def test_groups_are_drawn_whole():
    generator = np.random.default_rng(2)
    groups = np.repeat(np.arange(30), generator.integers(5, 30, 30))
    rate = generator.beta(4, 2, 30)[groups]
    right = (generator.random(len(groups)) < rate).astype(float)
    scores = np.stack([right, np.ones(len(right))], axis=1)
    shuffled = generator.permutation(len(groups))
    got = bootstrap_interval(scores[shuffled], 8000, 0.95, np.random.default_rng(0), 7 * groups[shuffled])
    sums = [np.bincount(groups, column) for column in scores.T]
    expected = stats.bootstrap(
        tuple(sums),
        lambda a, b, axis: a.sum(axis=axis) / b.sum(axis=axis),
        paired=True,
        vectorized=True,
        n_resamples=8000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=0.006)
    alone = interval(scores)
    assert got.value == alone.value
    assert got.n == len(scores)
    assert got.high - got.low > 1.5 * (alone.high - alone.low)


def test_few_groups_are_not_drawn():
    scores = accuracy_scores(60, 90)
    groups = np.arange(90) % (MIN_GROUPS - 1)
    assert bootstrap_interval(scores, 500, 0.9, np.random.default_rng(0), groups) == interval(
        scores, samples=500, confidence=0.9
    )


def test_all_right_is_as_sure_as_there_are_groups():
    groups = np.repeat(np.arange(12), 10)
    got = bootstrap_interval(accuracy_scores(120, 120), 500, 0.95, np.random.default_rng(0), groups)
    assert got.low == pytest.approx(0.025 ** (1 / 12))


def test_what_belongs_together():
    manifest = pd.DataFrame({"path": ["a", "a", "b", "c"], "speaker": ["ann", None, "ann", None]})
    recordings, speakers = group_clips(manifest, None), group_clips(manifest, "speaker")
    assert (recordings.column, recordings.n, recordings.groups.tolist()) == ("path", 3, [0, 0, 1, 2])
    # Who is not known is somebody else each time.
    assert (speakers.column, speakers.n, speakers.groups.tolist()) == ("speaker", 3, [0, 1, 0, 2])
    assert group_clips(manifest.drop(index=0), None) is None
