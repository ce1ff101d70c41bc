"""Whether probabilities are what they say: the temperature that makes them so, and the error that is left.

The temperature is fitted once, when the model is packaged, and divides the raw outputs wherever the model answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import minimize_scalar

from audioml.inference.predictor import Predictor

N_BINS = 15
"""As in Guo et al. (2017)."""
TEMPERATURES = (0.05, 20.0)
"""Bounds of what is searched."""
MAX_CLIPS = 10_000
"""Clips that the temperature is fitted to, at most: it is one number."""

Floats = npt.NDArray[np.float64]
Outputs = npt.NDArray[np.float32]


def fit_temperature(predictor: Predictor, raw: Outputs, clip_of: npt.NDArray[np.int64], truth: Any) -> float:
    """Return the temperature at which the loss of the clips' merged outputs is least (Guo et al. 2017, section 4.2).

    The outputs are merged as they are served: where a clip has several windows, it is the mean of their
    probabilities that is calibrated.

    Parameters
    ----------
    predictor
        The model; its task has `calibration_loss`.
    raw
        Raw outputs of windows, ``(windows, ...)``.
    clip_of
        The clip of each window, from 0, ``(windows,)``.
    truth
        Of the clips, as the task's `truth` gives it.
    """
    merge = merger(predictor, raw, clip_of)
    found = minimize_scalar(
        lambda log_t: predictor.task.calibration_loss(truth, merge(float(np.exp(log_t)))),
        bounds=np.log(TEMPERATURES),
        method="bounded",
        options={"xatol": 1e-3},
    )
    return round(float(np.exp(found.x)), 4)


def merger(
    predictor: Predictor,
    raw: npt.NDArray[Any],
    clip_of: npt.NDArray[np.int64],
    offsets_s: npt.ArrayLike | None = None,
    frames: npt.ArrayLike | None = None,
) -> Callable[[float], npt.NDArray[Any]]:
    """Return a function from a temperature to the clips' merged outputs ``(clips, ...)``, in the order of the clips.

    `offsets_s` and `frames` are those of `Predictor.merge_clips`.
    """

    def merge(temperature: float) -> npt.NDArray[Any]:
        description = replace(predictor.description, temperature=temperature)
        clips, merged = replace(predictor, description=description).merge_clips(raw, clip_of, offsets_s, frames)
        outputs = np.empty_like(merged)
        outputs[clips] = merged
        return outputs

    return merge


@dataclass(frozen=True, eq=False)
class Calibration:
    """How far the confidence of answers is from the share of them that are right."""

    metrics: dict[str, float]
    """``temperature``, ``ece``, ``adaptive_ece``; ending in ``_before``, the errors without the temperature."""
    reliability: pd.DataFrame
    """From `tabulate_reliability`."""
    before: pd.DataFrame | None
    """The same without the temperature; None where there is none."""


def judge_calibration(predictor: Predictor, scores: Floats, outputs: Outputs, uncalibrated: Outputs) -> Calibration:
    """Return the calibration of merged outputs.

    Parameters
    ----------
    predictor
        The model; its task's `describe` gives a ``probability``.
    scores
        Numerator and denominator of each clip, ``(clips, 2)``; one is right where they are equal.
    outputs, uncalibrated
        With the model's temperature, and without, ``(clips, ...)``.
    """
    right = scores[:, 0] == scores[:, 1]
    temperature = predictor.description.temperature

    def confidence(merged: Outputs) -> Floats:
        answers = (predictor.task.describe(predictor.description.targets, output) for output in merged)
        return np.array([answer["probability"] for answer in answers])

    metrics = {"temperature": temperature, **measure_calibration(confidence(outputs), right)}
    before = None
    if temperature != 1:
        earlier = confidence(uncalibrated)
        metrics |= {f"{name}_before": value for name, value in measure_calibration(earlier, right).items()}
        before = tabulate_reliability(earlier, right)
    return Calibration(metrics, tabulate_reliability(confidence(outputs), right), before)


def tabulate_reliability(confidence: npt.ArrayLike, right: npt.ArrayLike, n_bins: int = N_BINS) -> pd.DataFrame:
    """Return a reliability diagram as a table (DeGroot and Fienberg, 1983).

    Parameters
    ----------
    confidence
        Probability of what was predicted, for each clip, ``(n,)``.
    right
        Whether it was right, ``(n,)``.
    n_bins
        Number of bins of equal width.

    Returns
    -------
    DataFrame
        A row a bin: ``low``, ``high`` (its bounds), ``n``, and the means ``confidence`` and ``accuracy``, NaN in an
        empty one.
    """
    confidence = np.asarray(confidence, np.float64)
    # The bounds of a bin are excluded below and included above, as in Guo et al.
    place = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    table = _average(confidence, np.asarray(right, np.float64), place, n_bins)
    table.insert(0, "low", np.arange(n_bins) / n_bins)
    table.insert(1, "high", np.arange(1, n_bins + 1) / n_bins)
    return table


def measure_calibration(confidence: npt.ArrayLike, right: npt.ArrayLike) -> dict[str, float]:
    """Return the expected calibration error, by bins of equal width and of equal size.

    ``ece`` is the mean over clips of the distance between confidence and accuracy in bins of equal width (Naeini,
    Cooper and Hauskrecht, 2015). ``adaptive_ece`` has as many bins with equally many clips each (Nixon et al.
    2019), so that it does not hang on the bounds where most clips are in the last bin.
    """
    confidence, right = np.asarray(confidence, np.float64), np.asarray(right, np.float64)
    place = np.empty(len(confidence), int)
    place[np.argsort(confidence, kind="stable")] = np.arange(len(confidence)) * N_BINS // len(confidence)
    return {
        "ece": _expect_error(tabulate_reliability(confidence, right)),
        "adaptive_ece": _expect_error(_average(confidence, right, place, N_BINS)),
    }


def _average(confidence: Floats, right: Floats, place: npt.NDArray[np.int64], n_bins: int) -> pd.DataFrame:
    """Return the number of clips and their means in each bin."""
    n = np.bincount(place, minlength=n_bins)
    sums = {"confidence": np.bincount(place, confidence, n_bins), "accuracy": np.bincount(place, right, n_bins)}
    with np.errstate(invalid="ignore"):
        return pd.DataFrame({"n": n, **{name: values / n for name, values in sums.items()}})


def _expect_error(table: pd.DataFrame) -> float:
    gaps = (table["accuracy"] - table["confidence"]).abs() * table["n"]
    return float(gaps.sum() / table["n"].sum())
