"""Cross-validation: the metric of each fold and of all held-out clips together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from audioml.evaluation.calibration import measure_calibration
from audioml.evaluation.intervals import Groups, Interval, make_intervals
from audioml.evaluation.plots import INK, LINE, TRAIN, VALIDATION
from audioml.tasks._outputs import stack

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What the models of all folds make of the clips that each was not trained on."""

    pooled: Interval
    """Of the primary metric over all clips."""
    metrics: dict[str, float]
    """All metrics over all clips, as the task measures them."""
    calibration: dict[str, float]
    """``ece`` and ``adaptive_ece`` over all clips; empty where answers have no probability."""
    table: pd.DataFrame
    """A row a fold: fold (its name), n, metric, low, high."""

    @property
    def mean(self) -> float:
        """Of the folds' metrics, each counting the same."""
        return float(self.table["metric"].mean())

    @property
    def std(self) -> float:
        """Between folds: the standard deviation of a sample (n - 1)."""
        return float(self.table["metric"].std(ddof=1))


def judge_folds(
    task: ModuleType,
    targets: dict[str, Any],
    own_targets: Mapping[str, dict[str, Any]],
    clips: pd.DataFrame,
    folds: Sequence[str],
    outputs: Sequence[Floats],
    samples: int,
    confidence: float,
    generator: np.random.Generator,
    groups: Groups | None = None,
) -> CrossValidation:
    """Compare what was made of held-out clips with the truth, by fold as they come, and pooled.

    Pooled means that each clip counts the same, whatever its fold; the interval is that of clips, or groups, drawn with
    replacement. Of what differs between folds (speakers, rooms), the spread of the folds tells.

    Parameters
    ----------
    targets
        Of the final model.
    own_targets
        Of each fold's model, by its name: it is these that its outputs are judged by. Only metrics that are no ratio of
        sums over clips, and look at all clips at once, take those of the final model.
    clips
        Rows of the manifest.
    folds, outputs
        The name of the fold, and what its model makes of the clip, one for each clip in the same order.
    samples, confidence, generator, groups
        As in `bootstrap_interval`.
    """
    merged, truth = stack(list(outputs)), task.truth(targets, clips)
    places = {fold: np.flatnonzero([fold == name for name in folds]) for fold in dict.fromkeys(folds)}
    scores = np.empty((len(clips), 2))
    for fold, rows in places.items():
        own = own_targets[fold]
        scores[rows] = task.score_clips(own, task.truth(own, clips.iloc[rows]), merged[rows])
    interval_of = make_intervals(task, targets, truth, merged, scores, groups, samples, confidence, generator)
    table = []
    for fold, rows in places.items():
        interval = interval_of(np.isin(np.arange(len(clips)), rows))
        table.append([fold, interval.n, interval.value, interval.low, interval.high])
    return CrossValidation(
        interval_of(np.ones(len(clips), dtype=bool)),
        _measure(task, targets, own_targets, clips, places, truth, merged),
        _measure_calibration(task, [own_targets[fold] for fold in folds], scores, merged)
        if hasattr(task, "calibration_loss")
        else {},
        pd.DataFrame(table, columns=["fold", "n", "metric", "low", "high"]),
    )


def _measure(
    task: ModuleType,
    targets: dict[str, Any],
    own_targets: Mapping[str, dict[str, Any]],
    clips: pd.DataFrame,
    places: Mapping[str, NDArray[np.int64]],
    truth: Any,
    outputs: NDArray[Any],
) -> dict[str, float]:
    """Return the metrics over all clips; where folds have targets of their own, the mean of theirs, by their clips."""
    if all(own == targets for own in own_targets.values()):
        return dict(task.measure(targets, truth, outputs))
    sums: dict[str, NDArray[np.float64]] = {}
    for fold, rows in places.items():
        own = own_targets[fold]
        for name, value in task.measure(own, task.truth(own, clips.iloc[rows]), outputs[rows]).items():
            sums[name] = sums.get(name, np.zeros(2)) + np.array([value * len(rows), len(rows)])
    return {name: float(total / n) for name, (total, n) in sums.items()}


def _measure_calibration(
    task: ModuleType, targets: Sequence[dict[str, Any]], scores: NDArray[np.float64], outputs: NDArray[Any]
) -> dict[str, float]:
    pairs = zip(targets, outputs, strict=True)
    confidence = [task.describe(own, output)["probability"] for own, output in pairs]
    return measure_calibration(confidence, scores[:, 0] == scores[:, 1])


def draw_folds(found: CrossValidation, metric: str) -> Figure:
    """Return a figure of each fold's metric with its interval, and of the pooled one as a line and a band."""
    table, places = found.table, np.arange(len(found.table))[::-1]
    figure = Figure(figsize=(7, 1.2 + 0.32 * len(table)), layout="constrained")
    axes = figure.subplots()
    axes.axvspan(found.pooled.low, found.pooled.high, color=TRAIN, alpha=0.12, linewidth=0)
    axes.axvline(found.pooled.value, color=TRAIN, linewidth=1.5, label="all held-out clips")
    errors = np.abs(table[["low", "high"]].to_numpy().T - table["metric"].to_numpy())
    axes.errorbar(table["metric"], places, xerr=errors, fmt="o", color=VALIDATION, markersize=5, linewidth=1.5)
    axes.set_yticks(places, table["fold"].tolist())
    axes.set_xlabel(metric.replace("_", " "), color=INK)
    axes.set_title("Folds", color=INK, loc="left", fontsize=11)
    axes.grid(axis="x", color=LINE, linewidth=0.8)
    axes.tick_params(colors=INK, length=0)
    axes.spines[:].set_visible(False)
    axes.legend(frameon=False, labelcolor=INK, loc="best")
    return figure
