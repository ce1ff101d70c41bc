"""Raw outputs of windows to outputs of clips, whatever the task: what it merges with is known here only.

Outputs of one shape are one array. Those of clips that differ in length differ in shape where a task answers along
time; they are an array of objects then, one array each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioml.params import FeatureParams
from audioml.plugins import load_plugin

PROBED_S = 600
"""Seconds over which the time from frame to frame is measured."""


def merge_windows(
    task: ModuleType,
    targets: dict[str, Any],
    outputs: NDArray[Any],
    offsets_s: NDArray[np.float64],
    durations_s: NDArray[np.float64],
) -> NDArray[Any]:
    """Return the output of one clip.

    Parameters
    ----------
    outputs
        Raw outputs of the clip's windows, `(windows, ...)`.
    offsets_s, durations_s
        `(windows,)`: where each window starts in its clip, and how long its frames are in all, in seconds.
    """
    if outputs.dtype == object:
        outputs = np.stack(list(outputs))
    if hasattr(task, "merge_tracks"):
        merged = task.merge_tracks(targets, outputs, offsets_s, durations_s)
    else:
        merged = task.merge_outputs(outputs)
    return np.asarray(merged)


def stack(outputs: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return arrays as one, along a new first axis; as an array of objects where their shapes differ."""
    if len({output.shape for output in outputs}) == 1:
        return np.stack(outputs)
    objects = np.empty(len(outputs), dtype=object)
    for i, output in enumerate(outputs):
        objects[i] = output
    return objects


def join(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return arrays as one, along their first axis; as an array of objects where their rows differ in shape."""
    if len({part.shape[1:] for part in parts}) == 1:
        return np.concatenate(parts)
    return stack([row for part in parts for row in part])


def primary_of(task: ModuleType, section: Any) -> str:
    """Return the name of the metric that models are compared by: the section's `metric`, or the only one there is."""
    return str(getattr(section, "metric", task.PRIMARY))


def resampler(
    task: ModuleType, targets: dict[str, Any], truth: Any, outputs: NDArray[Any]
) -> Callable[[NDArray[Any]], NDArray[np.float64]] | None:
    """Return what makes of counts (resamples, clips) the primary metric of each resample, (resamples,).

    None where that metric is a ratio of sums over clips, which `score_clips` gives.
    """
    is_ratio = getattr(task, "is_ratio", lambda targets: not hasattr(task, "score_resamples"))
    return None if is_ratio(targets) else partial(task.score_resamples, targets, truth, outputs)


def sum_scores(task: ModuleType, targets: dict[str, Any], truth: Any, outputs: NDArray[Any]) -> tuple[float, float]:
    """Return numerator and denominator of the task's primary metric over clips.

    Where it is no ratio of sums over clips, they are the metric times the number of clips, and that number.
    """
    if metric := resampler(task, targets, truth, outputs):
        score = metric(np.ones((1, len(outputs))))
        return float(np.nan_to_num(score[0])) * len(outputs), float(len(outputs))
    score, weight = task.score_clips(targets, truth, outputs).sum(axis=0)
    return float(score), float(weight)


def divide(score: float, weight: float) -> float:
    """Return the metric of `sum_scores`; 0 where the clips have nothing to find and nothing was found."""
    return score / weight if weight else 0.0


def seconds_per_frame(name: str, params: FeatureParams) -> float:
    """Return the time from one frame of a feature plug-in to the next: by how many more frames longer audio has."""
    shape_of, rate = load_plugin("features", name).shape_of, params.sample_rate
    (_, first), (_, last) = (shape_of(params, seconds * rate) for seconds in (PROBED_S, 2 * PROBED_S))
    return PROBED_S / float(last - first)
