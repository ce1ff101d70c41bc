"""Two models on the same clips: how much better one is, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from audioml.evaluation.intervals import Groups, draw_counts, resample_sums, sum_groups

Metric = Callable[[npt.NDArray[np.float64]], npt.ArrayLike]
"""From how often each clip is there, ``(resamples, n)``, to the metric of each resample."""


@dataclass(frozen=True)
class Comparison:
    """Of ours with theirs, by their metric's own units."""

    n: int
    """Number of clips."""
    ours: float
    theirs: float
    difference: float
    """Ours less theirs."""
    low: float
    high: float
    """Interval of the difference."""
    share_better: float
    """Share of resamples in which ours is better; equal ones count half."""
    p_value: float
    """Of McNemar's exact test on the clips that one of them got better than the other."""
    gained: tuple[int, ...]
    """Positions of the clips that ours gets better than theirs."""
    lost: tuple[int, ...]
    """Positions of the clips that theirs gets better."""


def compare_paired(
    ours: npt.NDArray[np.float64],
    theirs: npt.NDArray[np.float64],
    samples: int,
    confidence: float,
    generator: np.random.Generator,
    groups: Groups | None = None,
    higher_is_better: bool = True,
    metrics: tuple[Metric, Metric] | None = None,
) -> Comparison:
    """Compare two models' scores of the same clips.

    Clips are drawn with replacement for both at once (the paired bootstrap: Efron and Tibshirani 1993; for comparing
    recognisers, Bisani and Ney 2004), so that clips which are easy or hard for both do not widen the interval.
    McNemar's test (1947, in its exact binomial form) asks whether clips are gained as often as lost; it takes clips
    as independent.

    Parameters
    ----------
    ours, theirs
        Numerator and denominator of each clip, ``(n, 2)``, of the same clips in the same order.
    samples, confidence, generator, groups
        As in `bootstrap_interval`.
    higher_is_better
        False for error rates.
    metrics
        Ours and theirs, where the metric is no ratio of sums over clips; scores then only say which clips are gained
        and lost.

    Returns
    -------
    Comparison
        Figures are NaN where these clips have no such metric.
    """
    n = len(ours)
    if metrics is None:
        units = sum_groups(np.concatenate([ours, theirs], axis=1).astype(np.float64), groups)
        values, drawn = _ratio(units.sum(axis=0)), _ratio(resample_sums(units, samples, generator))
    else:
        values = _both(metrics, np.ones((1, n)))[0]
        drawn = np.concatenate([_both(metrics, counts) for counts in draw_counts(n, samples, generator, groups)])
    differences = drawn[:, 0] - drawn[:, 1]
    if not np.isnan(differences).all():
        differences = differences[~np.isnan(differences)]
    low, high = np.quantile(differences, [(1 - confidence) / 2, (1 + confidence) / 2])
    sign = 1 if higher_is_better else -1
    clips = sign * np.diff(_ratio(np.concatenate([theirs, ours], axis=1)), axis=1)[:, 0]
    gained, lost = np.flatnonzero(clips > 0), np.flatnonzero(clips < 0)
    discordant = len(gained) + len(lost)
    return Comparison(
        n=n,
        ours=float(values[0]),
        theirs=float(values[1]),
        difference=float(values[0] - values[1]),
        low=float(low),
        high=float(high),
        share_better=float(np.mean(sign * differences > 0) + np.mean(differences == 0) / 2),
        p_value=float(stats.binomtest(len(gained), discordant).pvalue) if discordant else 1.0,
        gained=tuple(gained.tolist()),
        lost=tuple(lost.tolist()),
    )


def _both(metrics: tuple[Metric, Metric], counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.stack([np.asarray(metric(counts), dtype=np.float64) for metric in metrics], axis=-1)


def _ratio(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the two ratios of four columns ``(..., 4)``; NaN where a denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.stack([sums[..., 0] / sums[..., 1], sums[..., 2] / sums[..., 3]], axis=-1)
