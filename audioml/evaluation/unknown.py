"""Sounds that are none of the labels, and whether the model notices."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from audioml.errors import DecodeError, ParamsError
from audioml.inference.predictor import Predictor
from audioml.params import FILE_NAME

MAX_RECORDINGS = 1000
"""More are drawn from evenly."""


@dataclass(frozen=True)
class Strangers:
    """How the model answers recordings that are none of its labels."""

    n: int
    auroc: float
    """Chance that a known clip has the larger probability of a pair (Hendrycks and Gimpel 2017); 0.5 is guessing."""
    rejected_share: float | None
    """Share of them that are answered with unknown; None for a model without a threshold."""


def judge_strangers(predictor: Predictor, files: Iterable[Path], known: npt.ArrayLike) -> Strangers:
    """Return how well confidence tells recordings that are none of the labels from those that are.

    Parameters
    ----------
    predictor
        The model; its task's `describe` gives a ``probability``.
    files
        Recordings that are none of the labels.
    known
        The probabilities of what was answered to test clips, ``(n,)``.

    Raises
    ------
    ParamsError
        When one cannot be read as audio.
    """
    from sklearn.metrics import roc_auc_score

    answers = []
    for path in files:
        try:
            answers += predictor.predict([path.read_bytes()])
        except DecodeError as error:
            raise ParamsError(f"{FILE_NAME}: 'evaluate.unknown': {path} cannot be read as audio: {error}") from None
    strange = np.array([answer["probability"] for answer in answers])
    known = np.asarray(known, np.float64)
    truth = np.repeat([1, 0], [len(known), len(strange)])
    rejected = [answer["label"] != answer["nearest"] for answer in answers if "nearest" in answer]
    return Strangers(
        n=len(answers),
        auroc=float(roc_auc_score(truth, np.concatenate([known, strange]))),
        rejected_share=float(np.mean(rejected)) if rejected else None,
    )
