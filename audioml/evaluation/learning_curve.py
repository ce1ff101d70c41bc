"""Learning curve: the metric on the same test clips of models that were trained on shares of the training clips."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from audioml.evaluation.intervals import Groups, make_intervals


class Point(NamedTuple):
    """One model of the curve."""

    share: str
    """Of the training clips: a number, or ``all``."""
    train_clips: int
    outputs: NDArray[Any]
    """What it makes of the test clips, ``(clips, ...)``; objects, an array each, where they differ in shape."""
    targets: dict[str, Any]
    """By which its outputs are judged."""


def judge_shares(
    task: ModuleType,
    clips: pd.DataFrame,
    points: Sequence[Point],
    samples: int,
    confidence: float,
    seed: int,
    groups: Groups | None = None,
) -> pd.DataFrame:
    """Return a row for each point: share, train_clips, metric, low, high.

    Each interval is drawn from the same seed, so that points differ by their models alone.

    Parameters
    ----------
    clips
        The test clips, rows of the manifest.
    samples, confidence, groups
        As in `bootstrap_interval`.
    """
    rows = []
    for point in points:
        truth = task.truth(point.targets, clips)
        scores = task.score_clips(point.targets, truth, point.outputs)
        generator = np.random.default_rng(seed)
        interval = make_intervals(
            task, point.targets, truth, point.outputs, scores, groups, samples, confidence, generator
        )(np.ones(len(scores), dtype=bool))
        rows.append([point.share, point.train_clips, interval.value, interval.low, interval.high])
    return pd.DataFrame(rows, columns=["share", "train_clips", "metric", "low", "high"])
