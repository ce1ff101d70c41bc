"""The clips that a model got wrong, worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from audioml.audio.decode import decode
from audioml.audio.prepare import mix_to_mono
from audioml.evaluation.plots import cut_for_report, draw_spectrogram, encode_wav
from audioml.evaluation.report import Mistake
from audioml.labels import show_labels
from audioml.store.manifest import MANIFEST_TYPES


def rank_mistakes(
    scores: npt.NDArray[np.float64], predictions: Sequence[Mapping[str, Any]], higher_is_better: bool = True
) -> npt.NDArray[np.int64]:
    """Return the positions of all clips that are not wholly right: worst score first, then most confident.

    Parameters
    ----------
    scores
        Numerator and denominator of each clip's metric, shape ``(n, 2)``.
    predictions
        What the task says of each clip; its ``probability``, where there is one, is the confidence.
    higher_is_better
        False for error rates.
    """
    ratio = np.divide(scores[:, 0], scores[:, 1], out=np.full(len(scores), np.nan), where=scores[:, 1] > 0)
    badness = 1 - ratio if higher_is_better else ratio
    confidence = np.array([float(prediction.get("probability", 0.0)) for prediction in predictions])
    order = np.lexsort((-confidence, -badness))
    return np.asarray(order[badness[order] > 0], dtype=np.int64)


def show_mistake(row: pd.Series[Any], prediction: Mapping[str, Any], data: bytes, actual: Any = None) -> Mistake:
    """Return what the report shows of a mistake.

    Parameters
    ----------
    row
        The clip's row of the manifest.
    prediction
        What the task says of it; the first value is the prediction itself.
    data
        The clip's audio file.
    actual
        What is right, in the form of the prediction itself; None takes the manifest's label.
    """
    audio, sample_rate = decode(data)
    mono, shown_rate = cut_for_report(mix_to_mono(audio), sample_rate)
    own = {str(name): value for name, value in row.items() if name not in MANIFEST_TYPES and not pd.isna(value)}
    predicted = show_labels(next(iter(prediction.values())))
    if prediction.get("nearest", predicted) != predicted:
        own["nearest"] = prediction["nearest"]
    return Mistake(
        path=row["path"],
        actual=str(row["label"]) if actual is None else show_labels(actual),
        predicted=predicted,
        confidence=prediction.get("probability"),
        duration_s=float(row["duration_s"]),
        shown_s=len(mono) / shown_rate,
        sample_rate=shown_rate,
        spectrogram=draw_spectrogram(mono, shown_rate),
        audio=encode_wav(mono, shown_rate),
        details={name: str(value) for name, value in own.items()},
    )
