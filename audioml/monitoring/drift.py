"""Has a column another distribution than the reference? Tests that ask for evidence and for a difference that matters.

Each column is tested by itself, and all together raise a false alarm with a stated probability (Holm, Scandinavian J.
Statistics 6, 1979), which detects shifts best in the comparison of Rabanser, Günnemann and Lipton (Failing Loudly,
NeurIPS 2019, section 5). Numbers are compared by the two-sample test of Kolmogorov and Smirnov, whose statistic, the
largest distance between both distribution functions, is the size of the difference too; classes by Pearson's
chi-squared test, and the Jensen-Shannon distance to base 2 (Lin, IEEE Trans. Information Theory 37, 1991).

With many recordings, any difference is significant. So it must also be at least `min_effect`, and larger than
differences within the reference itself: between a fifth of its groups (speakers, machines, recordings) and the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2_contingency, ks_2samp

from audioml.monitoring.columns import COLUMNS, Column, Sample

MIN_EXPECTED = 5.0
"""Recordings of a class, on either side, that the chi-squared test needs (Cochran, Biometrics 10, 1954); rarer ones are
pooled."""
GROUP_SHARE, GROUP_DRAWS, GROUP_QUANTILE = 0.2, 200, 0.95
"""How much groups differ: of so many draws of this share of the groups, against the rest, the quantile of distances."""
MAX_USUAL = 0.5
"""Groups that differ by more than this still leave room for an alarm."""
SEED = 0


@dataclass(frozen=True)
class Finding:
    """What was found of one column."""

    column: Column
    n_reference: int
    n_now: int
    effect: float
    """How much both differ, from 0 to 1; NaN where it was not tested."""
    needed: float
    """From which on it counts."""
    p_value: float
    """Adjusted for the number of columns; NaN where it was not tested."""
    drifted: bool
    skipped: str = ""
    """Why it was not tested, where it was not."""
    reference: str = ""
    """What is typical of the reference: the median, of shares the mean, of classes the commonest."""
    now: str = ""


def find_drift(
    samples: Mapping[str, tuple[Sample, Sample]], min_rows: int, confidence: float, min_effect: float
) -> list[Finding]:
    """Test all columns; those that drifted come first, the largest difference at the top.

    Parameters
    ----------
    samples
        Of the reference and of now, by the column's name.
    min_rows
        On either side; a column with fewer is not tested.
    confidence
        Probability that there is no false alarm in any column.
    min_effect
        Smallest difference that counts.
    """
    found = [_test(column, *samples[column.name], min_rows, min_effect) for column in COLUMNS]
    tested = [i for i, finding in enumerate(found) if not finding.skipped]
    adjusted = adjust_holm(np.array([found[i].p_value for i in tested]))
    for i, p_value in zip(tested, adjusted.tolist(), strict=True):
        old = found[i]
        drifted = p_value < 1 - confidence and old.effect >= old.needed
        found[i] = Finding(**{**vars(old), "p_value": p_value, "drifted": drifted})
    return sorted(found, key=lambda f: (not f.drifted, bool(f.skipped), -f.effect if not f.skipped else 0.0))


def adjust_holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return p-values of tests that are made together, each to be compared with the level of all (Holm 1979)."""
    order = np.argsort(p_values)
    stepped = np.maximum.accumulate(p_values[order] * np.arange(len(p_values), 0, -1))
    adjusted = np.empty(len(p_values))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def distance(column: Column, one: NDArray[np.generic], other: NDArray[np.generic]) -> float:
    """Return how much two samples differ, from 0 to 1."""
    if column.kind == "number":
        return float(ks_2samp(one, other, method="asymp").statistic)
    counts = _count(one, other)
    return float(jensenshannon(counts[0], counts[1], base=2))


def _test(column: Column, reference: Sample, now: Sample, min_rows: int, min_effect: float) -> Finding:
    sizes = len(reference.values), len(now.values)
    nan = float("nan")
    for n, what in zip(sizes, ("reference clips", "recordings"), strict=True):
        if n < min_rows:
            reason = f"{n} {what} have it; {min_rows} are needed" if n else f"none of the {what} has it"
            return Finding(column, *sizes, nan, nan, nan, drifted=False, skipped=reason)
    if column.kind == "number":
        p_value = float(ks_2samp(reference.values, now.values, method="asymp").pvalue)
    else:
        p_value = _test_classes(_count(reference.values, now.values))
    return Finding(
        column,
        *sizes,
        effect=distance(column, reference.values, now.values),
        needed=max(min_effect, _usual_distance(column, reference)),
        p_value=p_value,
        drifted=False,
        reference=_typical(column, reference),
        now=_typical(column, now),
    )


def _usual_distance(column: Column, reference: Sample) -> float:
    """Return how far a fifth of the reference's groups lies from the rest, as a rule; 0 where there are no groups."""
    if reference.groups is None or len(names := np.unique(reference.groups)) < 2:
        return 0.0
    generator = np.random.default_rng(SEED)
    n_drawn = max(1, round(GROUP_SHARE * len(names)))
    distances = []
    for _ in range(GROUP_DRAWS):
        drawn = np.isin(reference.groups, generator.choice(names, n_drawn, replace=False))
        distances.append(distance(column, reference.values[drawn], reference.values[~drawn]))
    return min(MAX_USUAL, float(np.quantile(distances, GROUP_QUANTILE)))


def _count(one: NDArray[np.generic], other: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return how often each class is in either, ``(2, classes)``."""
    names = sorted({*one.tolist(), *other.tolist()})
    position = {name: i for i, name in enumerate(names)}
    return np.stack(
        [np.bincount([position[name] for name in side.tolist()], minlength=len(names)) for side in (one, other)]
    )


def _test_classes(counts: NDArray[np.int64]) -> float:
    """Return the p-value of the chi-squared test; classes that are too rare for it are pooled."""
    expected = counts.sum(axis=0) * counts.sum(axis=1).min() / counts.sum()
    rare = expected < MIN_EXPECTED
    pooled = np.column_stack([counts[:, ~rare], counts[:, rare].sum(axis=1)]) if rare.any() else counts
    pooled = pooled[:, pooled.sum(axis=0) > 0]
    return float(chi2_contingency(pooled, correction=False).pvalue) if pooled.shape[1] > 1 else 1.0


def _typical(column: Column, sample: Sample) -> str:
    if column.name.endswith("_share"):
        return f"mean {round(100 * float(np.mean(sample.values)), 2):.3g} %"
    if column.kind == "number":
        median = float(np.median(sample.values))
        return f"{median:{',.0f' if abs(median) >= 1000 else '.3g'}} {column.unit}".strip()
    names, counts = np.unique(sample.values.astype(str), return_counts=True)
    most = int(counts.argmax())
    return f"{names[most]}{f' {column.unit}' if column.unit else ''} ({counts[most] / counts.sum():.0%})"
