"""How the champion does on recordings that people have labelled since: its primary metric, as its task measures it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from audioml.evaluation.intervals import Interval, bootstrap_interval, bootstrap_metric
from audioml.inference.predictor import Predictor
from audioml.labels import split_tags
from audioml.tasks._outputs import resampler
from audioml.tasks._texts import split_words

if TYPE_CHECKING:
    import pandas as pd

BOOTSTRAP_SAMPLES = 2000


@dataclass(frozen=True)
class Retest:
    """What labelled recordings say of a version."""

    metric: str
    """Name of the primary metric."""
    registered: float | None
    """Of the test clips, when the version was registered; None where it is not known."""
    n: int
    """Labelled recordings that it answered."""
    found: Interval | None = None
    """None where they are too few, or were not judged."""
    unknown: int = 0
    """Those with labels that the model does not know; they count as wrong, or are left out of metrics that are
    no sum over recordings."""
    failed: bool = False
    """Whether it does worse than registered, by more than is allowed, with the stated confidence."""
    skipped: str = ""
    """Why nothing was judged, where nothing was."""


def retest(
    predictor: Predictor,
    registered: dict[str, float],
    labelled: pd.DataFrame,
    *,
    min_labels: int,
    max_loss: float,
    confidence: float,
    seed: int = 0,
) -> Retest:
    """Judge a version's answers by labels that were given later.

    Parameters
    ----------
    predictor
        Of the version: its task and its labels.
    registered
        Its metrics in the registry.
    labelled
        Rows of the log with a column ``label``, as the source of training has it.
    min_labels
        Fewer are not judged.
    max_loss
        What may be lost of the metric, in absolute terms.
    confidence
        Of the interval. The version fails where all of it is worse than the registered metric less `max_loss`.
    seed
        Of the bootstrap.
    """
    task, description = predictor.task, predictor.description
    metric = str(description.task["params"].get("metric", task.PRIMARY))
    before, n = registered.get(f"test_{metric}"), len(labelled)
    if n < min_labels:
        return Retest(metric, before, n, skipped=f"{n} labelled recordings; {min_labels} are needed")
    answers = [json.loads(text) for text in labelled["prediction"]]
    generator = np.random.default_rng(seed)
    unknown = 0
    if "probabilities" in answers[0]:
        found, unknown = _judge_probabilities(predictor, answers, labelled, confidence, generator)
    elif "text" in answers[0]:
        scores = _score_texts([answer["text"] for answer in answers], labelled["label"].tolist())
        metric, before = "wer", registered.get("test_wer")
        found = bootstrap_interval(scores, BOOTSTRAP_SAMPLES, confidence, generator)
    else:
        name = description.task["name"]
        return Retest(metric, before, n, skipped=f"answers of the task {name} do not say enough to be judged later")
    failed = False
    if before is not None:
        worse = found.high < before - max_loss if _is_higher_better(task) else found.low > before + max_loss
        failed = bool(worse)
    return Retest(metric, before, n, found, unknown, failed)


def _judge_probabilities(
    predictor: Predictor,
    answers: list[dict[str, Any]],
    labelled: pd.DataFrame,
    confidence: float,
    generator: np.random.Generator,
) -> tuple[Interval, int]:
    """Return the primary metric by the probabilities that were logged, and how many labels the model does not know."""
    task, targets = predictor.task, predictor.description.targets
    labels = targets["labels"]
    known = np.array([_is_known(predictor, label) for label in labelled["label"]])
    outputs = np.array([[a["probabilities"][label] for label in labels] for a in answers], np.float32)
    unknown = int((~known).sum())
    if not known.any():
        return bootstrap_interval(np.tile([0.0, 1.0], (unknown, 1)), BOOTSTRAP_SAMPLES, confidence, generator), unknown
    rows = labelled[known].reset_index(drop=True)
    truth = task.truth(targets, rows)
    score = resampler(task, targets, truth, outputs[known])
    if score is not None:
        return bootstrap_metric(score, len(rows), BOOTSTRAP_SAMPLES, confidence, generator), unknown
    scores = np.asarray(task.score_clips(targets, truth, outputs[known]), dtype=np.float64)
    missed = np.tile([0.0, 1.0], (unknown, 1))
    return bootstrap_interval(np.concatenate([scores, missed]), BOOTSTRAP_SAMPLES, confidence, generator), unknown


def _is_known(predictor: Predictor, label: str) -> bool:
    """Tell whether the model has learned all that a label names."""
    targets = predictor.description.targets
    if predictor.description.task["name"] != "tagging":
        return label in targets["labels"]
    return set(split_tags(label, targets["separator"])) <= set(targets["labels"])


def _score_texts(said: list[str], labels: list[str]) -> NDArray[np.float64]:
    """Return word errors and words of each recording, ``(n, 2)``."""
    pairs = [(split_words(label), split_words(text)) for label, text in zip(labels, said, strict=True)]
    return np.array([(Levenshtein.distance(truth, words), len(truth)) for truth, words in pairs], dtype=np.float64)


def _is_higher_better(task: Any) -> bool:
    return bool(getattr(task, "HIGHER_IS_BETTER", True))
