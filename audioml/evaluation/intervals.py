"""Bootstrap confidence intervals, of a ratio of sums over clips (accuracy, word error rate) and of any other metric."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from audioml.tasks._outputs import resampler

BLOCK_VALUES = 1 << 22
"""Upper bound on the numbers held at once while resampling (32 MB)."""
MIN_GROUPS = 10
"""Fewer groups than this are not resampled: the bootstrap of few clusters is far too narrow (Cameron, Gelbach and
Miller, Review of Economics and Statistics 90, 2008, section 4)."""

Groups = npt.NDArray[np.int64]
"""The group of each clip, such as its recording or speaker, as a number from 0, ``(n,)``."""


@dataclass(frozen=True)
class Interval:
    """A metric with its confidence interval."""

    value: float
    low: float
    high: float
    n: int
    """Number of clips."""


@dataclass(frozen=True, eq=False)
class Grouping:
    """Clips that belong together, and are drawn together."""

    column: str
    """The manifest's column that says so."""
    groups: Groups
    n: int
    """Number of groups."""


def group_clips(manifest: pd.DataFrame, column: str | None) -> Grouping | None:
    """Return which clips belong together: those of one value of a column, else segments of one recording.

    A clip without a value stands alone. None where no two clips belong together.
    """
    name = column or "path"
    codes = np.asarray(pd.factorize(manifest[name])[0], dtype=np.int64)
    alone = codes < 0
    codes[alone] = codes.max(initial=-1) + 1 + np.arange(alone.sum())
    n = len(np.unique(codes))
    return Grouping(name, codes, n) if n < len(codes) else None


def bootstrap_interval(
    scores: npt.ArrayLike,
    samples: int,
    confidence: float,
    generator: np.random.Generator,
    groups: Groups | None = None,
) -> Interval:
    """Return sum of numerators over sum of denominators, with its percentile bootstrap interval.

    Clips are drawn with replacement (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section
    13.3), or whole groups of clips (the cluster bootstrap: Davison and Hinkley, Bootstrap Methods and their
    Application, 1997, section 3.8). Units with equal scores are interchangeable, so a resample is one multinomial
    draw over the distinct scores. Where all clips are right, or all wrong, a resample cannot differ from the sample
    and the bootstrap would claim certainty; there the exact binomial interval (Clopper and Pearson, 1934) of as many
    trials as there are units is returned.

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
    groups
        Of the clips: those of one group are drawn together. None, or fewer than `MIN_GROUPS`, draws clip by clip.

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
    units = sum_groups(scores, groups)
    if (scores[:, 1] == 1).all() and numerator in (0, n):
        n_right = len(units) if numerator else 0
        exact = stats.binomtest(n_right, len(units)).proportion_ci(confidence, method="exact")
        return Interval(value, float(exact.low), float(exact.high), n)
    numerators, denominators = resample_sums(units, samples, generator).T
    ratios = numerators[denominators > 0] / denominators[denominators > 0]
    low, high = np.quantile(ratios, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value, float(low), float(high), n)


def sum_groups(scores: npt.NDArray[np.float64], groups: Groups | None) -> npt.NDArray[np.float64]:
    """Return the units that are drawn: clips' scores ``(n, k)`` summed over each group, or the clips themselves."""
    if groups is None or len(found := np.unique(groups)) < MIN_GROUPS:
        return scores
    sums = np.zeros((len(found), scores.shape[1]))
    np.add.at(sums, np.searchsorted(found, groups), scores)
    return sums


def resample_sums(
    units: npt.NDArray[np.float64], samples: int, generator: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Return the columns' sums over as many units, ``(n, k)``, drawn with replacement: float64 ``(samples, k)``."""
    distinct, counts = np.unique(units, axis=0, return_counts=True)
    block = max(1, BLOCK_VALUES // len(distinct))
    sums = [
        generator.multinomial(len(units), counts / len(units), size=min(block, samples - start)) @ distinct
        for start in range(0, samples, block)
    ]
    return np.concatenate(sums)


def bootstrap_metric(
    score: Callable[[npt.NDArray[np.float64]], npt.ArrayLike],
    n: int,
    samples: int,
    confidence: float,
    generator: np.random.Generator,
    groups: Groups | None = None,
) -> Interval:
    """Return a metric that is no ratio of sums over clips, with its percentile bootstrap interval.

    Parameters
    ----------
    score
        From how often each clip is there, ``(resamples, n)``, to the metric of each resample, ``(resamples,)``; NaN
        where there is none.
    n
        Number of clips.
    samples, confidence, generator, groups
        As in `bootstrap_interval`.

    Returns
    -------
    Interval
        NaN in all fields when these clips have no such metric.
    """
    value = float(np.asarray(score(np.ones((1, n))))[0])
    if np.isnan(value):
        return Interval(np.nan, np.nan, np.nan, n)
    values = [score(counts) for counts in draw_counts(n, samples, generator, groups)]
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(np.concatenate(values), [tail, 1 - tail])
    return Interval(value, float(low), float(high), n)


def draw_counts(
    n: int, samples: int, generator: np.random.Generator, groups: Groups | None = None
) -> Iterator[npt.NDArray[np.float64]]:
    """Yield how often each clip is there, ``(resamples, n)``, for some resamples at a time, `samples` in all.

    Clips of a group are drawn together; groups as in `bootstrap_interval`.
    """
    found, unit_of = (np.arange(n),) * 2 if groups is None else np.unique(groups, return_inverse=True)
    if len(found) < MIN_GROUPS:
        found = unit_of = np.arange(n)
    shares, block = np.full(len(found), 1 / len(found)), max(1, BLOCK_VALUES // n)
    for start in range(0, samples, block):
        drawn = generator.multinomial(len(found), shares, min(block, samples - start))
        yield drawn[:, unit_of].astype(np.float64)


def make_intervals(
    task: ModuleType,
    targets: dict[str, Any],
    truth: Any,
    outputs: npt.NDArray[Any],
    scores: npt.NDArray[np.float64],
    groups: Groups | None,
    samples: int,
    confidence: float,
    generator: np.random.Generator,
) -> Callable[[npt.NDArray[np.bool_]], Interval]:
    """Return what gives the primary metric, with its interval, of the clips that a mask ``(clips,)`` chooses.

    Parameters
    ----------
    truth, outputs, scores
        Of all clips, as the task gives, takes and scores them.
    groups, samples, confidence, generator
        As in `bootstrap_interval`.
    """

    def interval_of(chosen: npt.NDArray[np.bool_]) -> Interval:
        own = None if groups is None else groups[chosen]
        score = resampler(task, targets, truth[chosen], outputs[chosen])
        if score is None:
            return bootstrap_interval(scores[chosen], samples, confidence, generator, own)
        return bootstrap_metric(score, int(chosen.sum()), samples, confidence, generator, own)

    return interval_of
