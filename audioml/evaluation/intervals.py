"""Bootstrap confidence intervals of a ratio of sums over clips: accuracy and word error rate alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

BLOCK_VALUES = 1 << 22
"""Upper bound on the numbers held at once while resampling (32 MB)."""


@dataclass(frozen=True)
class Interval:
    """A metric with its confidence interval."""

    value: float
    low: float
    high: float
    n: int
    """Number of clips."""


def bootstrap_interval(
    scores: npt.ArrayLike, samples: int, confidence: float, generator: np.random.Generator
) -> Interval:
    """Return sum of numerators over sum of denominators, with its percentile bootstrap interval.

    Clips are drawn with replacement (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section
    13.3). Clips with equal scores are interchangeable, so a resample is one multinomial draw over the distinct
    scores. Where all clips are right, or all wrong, a resample cannot differ from the sample and the bootstrap
    would claim certainty; there the exact binomial interval (Clopper and Pearson, 1934) is returned.

    Parameters
    ----------
    scores
        Numerator and denominator of each clip, shape ``(n, 2)``, n > 0.
    samples
        Number of resamples.
    confidence
        Such as 0.95.
    generator
        Source of the draws.

    Returns
    -------
    Interval
        NaN in all fields when the denominators sum to 0.
    """
    scores = np.asarray(scores, dtype=np.float64)
    n = len(scores)
    numerator, denominator = scores.sum(axis=0)
    if denominator == 0:
        return Interval(np.nan, np.nan, np.nan, n)
    value = float(numerator / denominator)
    distinct, counts = np.unique(scores, axis=0, return_counts=True)
    if len(distinct) == 1 and distinct[0, 1] == 1 and distinct[0, 0] in (0, 1):
        exact = stats.binomtest(int(numerator), n).proportion_ci(confidence, method="exact")
        return Interval(value, float(exact.low), float(exact.high), n)
    block = max(1, BLOCK_VALUES // len(distinct))
    sums = [
        generator.multinomial(n, counts / n, size=min(block, samples - start)) @ distinct
        for start in range(0, samples, block)
    ]
    numerators, denominators = np.concatenate(sums).T
    ratios = numerators[denominators > 0] / denominators[denominators > 0]
    tail = (1 - confidence) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return Interval(value, float(low), float(high), n)
