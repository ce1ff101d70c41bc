"""Paired comparison against scipy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from audioml.evaluation.paired import compare_paired


def scores(right: np.ndarray) -> np.ndarray:
    return np.stack([right, np.ones(len(right))], axis=1).astype(float)


def compared(ours, theirs, **options):
    return compare_paired(ours, theirs, 4000, 0.95, np.random.default_rng(0), **options)


@pytest.fixture
def outcomes() -> tuple[np.ndarray, np.ndarray]:
    """Two models that are right on 90 % and 85 % of 400 clips, and mostly on the same ones."""
    generator = np.random.default_rng(3)
    hard = generator.random(400)
    return hard < 0.9, (hard + generator.normal(0, 0.02, 400)) < 0.85


def test_the_interval_is_that_of_scipys_paired_bootstrap(outcomes):
    ours, theirs = outcomes
    found = compared(scores(ours), scores(theirs))
    expected = stats.bootstrap(
        (ours.astype(float) - theirs,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.difference == pytest.approx(ours.mean() - theirs.mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.004)
    # Clips that both get right or wrong do not widen it.
    alone = np.sqrt((ours.var() + theirs.var()) / 400)
    assert found.high - found.low < 2 * 1.96 * alone * 0.8


def test_mcnemars_exact_test(outcomes):
    ours, theirs = outcomes
    found = compared(scores(ours), scores(theirs))
    gained, lost = int((ours & ~theirs).sum()), int((~ours & theirs).sum())
    assert (len(found.gained), len(found.lost)) == (gained, lost)
    assert ours[list(found.gained)].all()
    assert theirs[list(found.lost)].all()
    assert found.p_value == pytest.approx(2 * stats.binom.cdf(min(gained, lost), gained + lost, 0.5))
    assert found.share_better > 0.99


def test_the_same_model_is_no_better():
    right = scores(np.arange(50) % 3 > 0)
    found = compared(right, right)
    assert (found.difference, found.low, found.high, found.p_value, found.share_better) == (0, 0, 0, 1, 0.5)
    assert found.gained == found.lost == ()


def test_for_an_error_rate_less_is_better():
    words = np.full(40, 10.0)
    generator = np.random.default_rng(0)
    theirs = np.stack([generator.integers(2, 5, 40), words], axis=1)
    ours = np.stack([theirs[:, 0] - 1, words], axis=1)
    found = compared(ours, theirs, higher_is_better=False)
    assert found.difference == pytest.approx(-0.1)
    assert found.share_better == 1
    assert (len(found.gained), len(found.lost)) == (40, 0)


def test_a_metric_of_all_clips_is_that_of_its_resamples(outcomes):
    ours, theirs = outcomes
    # Scores say that nothing differs; the metrics are accuracies again, computed another way.
    same = scores(np.ones(400))
    metrics = tuple(lambda counts, right=right: counts @ right / counts.sum(axis=1) for right in (ours, theirs))
    found, expected = compared(same, same, metrics=metrics), compared(scores(ours), scores(theirs))
    assert (found.ours, found.theirs) == pytest.approx((ours.mean(), theirs.mean()))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.004)
    assert (found.gained, found.lost, found.p_value) == ((), (), 1)
    # Groups are drawn whole.
    groups = np.repeat(np.arange(20), 20)
    halves = groups % 2 == 0
    metrics = tuple(lambda counts, right=right: counts @ right / counts.sum(axis=1) for right in (halves, ~halves))
    together = compared(same, same, metrics=metrics, groups=groups)
    assert together.high - together.low > 0.6


def test_clips_without_anything_to_find_have_no_figures():
    nothing = np.zeros((5, 2))
    found = compared(nothing, nothing)
    assert np.isnan([found.ours, found.theirs, found.difference, found.low, found.high]).all()
    assert (found.gained, found.lost, found.p_value) == ((), (), 1)


def test_groups_widen_the_interval():
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 20)
    better = generator.random(20) < 0.6
    ours = generator.random(400) < np.where(better, 0.95, 0.7)[groups]
    theirs = generator.random(400) < 0.8
    alone, together = compared(scores(ours), scores(theirs)), compared(scores(ours), scores(theirs), groups=groups)
    assert together.difference == alone.difference
    assert together.high - together.low > 1.2 * (alone.high - alone.low)
