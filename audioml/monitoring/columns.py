"""What is watched: the columns of the log, or made of them, that are tested for drift."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf

from audioml.inference.reference import ANSWERED
from audioml.labels import NOTHING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Column:
    """Something of each recording whose distribution is compared with the reference's."""

    name: str
    title: str
    unit: str
    kind: Literal["number", "class"]
    answered: bool
    """Whether it is compared with validation clips only, since training clips would flatter the model."""


COLUMNS = (
    Column("rms_dbfs", "Loudness", "dBFS", "number", answered=False),
    Column("noise_dbfs", "Noise floor", "dBFS", "number", answered=False),
    Column("clipped_share", "Clipped share", "", "number", answered=False),
    Column("silent_share", "Silent share", "", "number", answered=False),
    Column("bandwidth_hz", "Bandwidth", "Hz", "number", answered=False),
    Column("duration_s", "Duration", "s", "number", answered=False),
    Column("sample_rate", "Sample rate", "Hz", "class", answered=False),
    Column("embedding", "Embedding distance", "", "number", answered=True),
    Column("confidence", "Confidence", "", "number", answered=True),
    Column("class", "Answers", "", "class", answered=True),
)


@dataclass(frozen=True, eq=False)
class Sample:
    """The values of one column: numbers, or the classes of all recordings."""

    values: NDArray[Any]
    """float64, or str in an array of objects, ``(n,)``; a recording may give no value, or several classes."""
    groups: NDArray[np.int64] | None = None
    """What belongs together in the reference, ``(n,)``; None where nothing does."""


@dataclass(frozen=True, eq=False)
class Embedding:
    """Where the training clips lie, so that the distance of others can be told.

    It is Mahalanobis' distance with a shrunk covariance (Ledoit and Wolf, J. Multivariate Analysis 88, 2004) of
    standardised dimensions: used to find inputs unlike those of training by Lee et al. (NeurIPS 2018, section 2).
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    precision: NDArray[np.float64]

    @classmethod
    def fit(cls, embeddings: NDArray[np.float32]) -> Embedding:
        """Learn it from embeddings ``(clips, n)``, two at least."""
        mean, deviation = embeddings.mean(axis=0, dtype=np.float64), embeddings.std(axis=0, dtype=np.float64)
        scale = np.where(deviation > 1e-6, deviation, 1.0)
        fitted = LedoitWolf(store_precision=True, assume_centered=True).fit((embeddings - mean) / scale)
        return cls(mean, scale, fitted.precision_)

    def distances(self, embeddings: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the distance of each of ``(clips, n)`` from the mean, per dimension, so that about 1 is usual."""
        centred = (embeddings - self.mean) / self.scale
        squares = np.einsum("ij,jk,ik->i", centred, self.precision, centred)
        distances: NDArray[np.float64] = np.sqrt(np.maximum(squares, 0.0) / len(self.mean))
        return distances


def take_samples(reference: pd.DataFrame, now: pd.DataFrame) -> dict[str, tuple[Sample, Sample]]:
    """Return the values of each column, of the reference and of now, by the column's name.

    Parameters
    ----------
    reference
        As `audioml.inference.reference` keeps it.
    now
        Rows of the log of predictions, or of recordings that were answered like it.
    """
    held_out = reference[reference["split"] == ANSWERED]
    sides = {}
    for column in COLUMNS:
        if column.name == "embedding":
            sides[column.name] = _compare_embeddings(reference, held_out, now)
        else:
            own = held_out if column.answered else reference
            sides[column.name] = _take(own, column), _take(now, column)
    return sides


def class_of(prediction: Mapping[str, Any]) -> list[str]:
    """Return the classes that an answer names: of a label one, of tags and events any number; of a text none."""
    if "label" in prediction:
        return [str(prediction["label"])]
    if "tags" in prediction:
        return list(map(str, prediction["tags"])) or [NOTHING]
    if "events" in prediction:
        return [str(event["label"]) for event in prediction["events"]] or [NOTHING]
    return [str(prediction["speaker"])] if "speaker" in prediction else []


def confidence_of(prediction: Mapping[str, Any]) -> float:
    """Return how sure an answer is, as its task says it; NaN where there is nothing to be sure of."""
    for name in ("probability", "confidence", "similarity"):
        if prediction.get(name) is not None:
            return float(prediction[name])
    if probabilities := prediction.get("probabilities"):
        return float(max(probabilities.values()))
    sure = [event["confidence"] for event in prediction.get("events", [])]
    return float(np.mean(sure)) if sure else float("nan")


def _take(frame: pd.DataFrame, column: Column) -> Sample:
    groups = _groups_of(frame)
    if column.name == "sample_rate":
        return Sample(frame["sample_rate"].astype(str).to_numpy(dtype=object), groups)
    if not column.answered:
        # Both sides as tables keep them: equal values that were rounded otherwise would count as different.
        values = frame[column.name].to_numpy(dtype=np.float32, na_value=np.nan)
        return _finite(values.astype(np.float64), groups)
    answers = [json.loads(text) for text in frame["prediction"]]
    if column.name == "confidence":
        return _finite(np.array([confidence_of(answer) for answer in answers], dtype=np.float64), groups)
    classes = [class_of(answer) for answer in answers]
    repeated = None if groups is None else np.repeat(groups, [len(names) for names in classes])
    return Sample(np.array([name for names in classes for name in names], dtype=object), repeated)


def _compare_embeddings(reference: pd.DataFrame, held_out: pd.DataFrame, now: pd.DataFrame) -> tuple[Sample, Sample]:
    known = reference[reference["split"] != ANSWERED]
    if len(known) < 2:
        return Sample(np.empty(0)), Sample(np.empty(0))
    embedding = Embedding.fit(np.stack(list(known["embedding"])))
    sides = []
    for frame in (held_out, now):
        rows = frame[frame["embedding"].notna()]
        distances = embedding.distances(np.stack(list(rows["embedding"]))) if len(rows) else np.empty(0)
        sides.append(Sample(distances, _groups_of(rows)))
    return sides[0], sides[1]


def _groups_of(frame: pd.DataFrame) -> NDArray[np.int64] | None:
    if "group" not in frame or frame["group"].isna().any():
        return None
    groups: NDArray[np.int64] = frame["group"].to_numpy(dtype=np.int64)
    return groups


def _finite(values: NDArray[np.float64], groups: NDArray[np.int64] | None) -> Sample:
    known = np.isfinite(values)
    return Sample(values[known], None if groups is None else groups[known])
