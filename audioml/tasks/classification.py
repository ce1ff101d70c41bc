"""One label for each clip.

`targets` is ``{"labels": [...]}``, sorted; a clip's output is one probability per label, in that order.
torch, scikit-learn, pandas and matplotlib are imported where they are used: serving needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from audioml.errors import DatasetError
from audioml.params import Section

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor, nn

PRIMARY = "accuracy"
"""Name of the metric that `score_clips` gives and that models are compared by."""

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


class Params(Section):
    """How labels are learned."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of each target spread evenly over all labels (Szegedy et al. 2016, section 7)."""


def fit_targets(params: Params, manifest: pd.DataFrame) -> dict[str, Any]:
    """Return the labels of the training clips, sorted.

    Raises
    ------
    DatasetError
        When there are fewer than two.
    """
    labels = sorted({str(label) for label in manifest["label"]})
    if len(labels) < 2:
        raise DatasetError(
            f"Classification needs clips of at least 2 labels for training, but there are {len(labels)}: {labels}. "
            "Add recordings of another class, or choose another column with data.label."
        )
    return {"labels": labels}


def encode_targets(params: Params, targets: dict[str, Any], manifest: pd.DataFrame) -> Floats:
    """Return float32 (clips, labels), one row a clip: 1 at its label, else 0."""
    encoded: Floats = np.eye(len(targets["labels"]), dtype=np.float32)[truth(targets, manifest)]
    return encoded


def build_head(params: Params, targets: dict[str, Any], width: int) -> nn.Module:
    """Return the mean over frames and a linear layer: (n, width, frames) to logits (n, labels)."""
    from torch import nn

    return nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, len(targets["labels"])))


def loss(params: Params, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits (n, labels) against soft targets (n, labels)."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(outputs, targets, label_smoothing=params.label_smoothing)


def merge_outputs(outputs: Floats) -> Floats:
    """Return float32 (labels,): the mean over windows of the softmax of logits (windows, labels)."""
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    weights = np.exp(shifted, dtype=np.float64)
    merged: Floats = (weights / weights.sum(axis=1, keepdims=True)).mean(axis=0).astype(np.float32)
    return merged


def describe(targets: dict[str, Any], output: Floats) -> dict[str, Any]:
    """Return the label, its probability, and all probabilities by label, largest first."""
    order = np.argsort(-output, kind="stable")
    probabilities = {targets["labels"][i]: float(output[i]) for i in order}
    label = next(iter(probabilities))
    return {"label": label, "probability": probabilities[label], "probabilities": probabilities}


def truth(targets: dict[str, Any], manifest: pd.DataFrame) -> Indices:
    """Return int64 (clips,): the position of each clip's label in ``targets["labels"]``.

    Raises
    ------
    DatasetError
        When a clip has a label that no training clip has.
    """
    position = {label: i for i, label in enumerate(targets["labels"])}
    labels = [str(label) for label in manifest["label"]]
    if unknown := sorted(set(labels) - set(position)):
        raise DatasetError(
            f"The labels {unknown} have no clip for training, so they cannot be learned or judged "
            f"(there are: {', '.join(targets['labels'])}). Add clips of them, remove them, or split otherwise."
        )
    return np.array([position[label] for label in labels], dtype=np.int64)


def score_clips(targets: dict[str, Any], truth: Indices, outputs: Floats) -> NDArray[np.float64]:
    """Return float64 (clips, 2): 1 where the most probable label is right, else 0; and 1 for each clip."""
    right = _predict(outputs) == truth
    return np.stack([right, np.ones(len(truth))], axis=1).astype(np.float64)


def measure(targets: dict[str, Any], truth: Indices, outputs: Floats) -> dict[str, float]:
    """Return accuracy, macro means over the labels, and ``f1/<label>`` for each.

    A label that is never predicted has precision 0; one without clips has recall 0 and counts in the means
    only if it was predicted. Each is as in `sklearn.metrics`.
    """
    per_label = _score_labels(targets, truth, outputs)
    seen = per_label[(per_label["support"] > 0) | (per_label["predicted"] > 0)]
    metrics = {"accuracy": float(np.mean(_predict(outputs) == truth))}
    metrics |= {f"macro_{name}": float(seen[name].mean()) for name in ("precision", "recall", "f1")}
    return metrics | {f"f1/{label}": float(f1) for label, f1 in zip(per_label["label"], per_label["f1"], strict=True)}


def tables(targets: dict[str, Any], truth: Indices, outputs: Floats) -> dict[str, pd.DataFrame]:
    """Return `confusion` (actual, predicted; a row a clip) and `per_label` (precision, recall, f1, support)."""
    import pandas as pd

    labels = np.array(targets["labels"], dtype=object)
    confusion = pd.DataFrame({"actual": labels[truth], "predicted": labels[_predict(outputs)]})
    return {
        "confusion": confusion,
        "per_label": _score_labels(targets, truth, outputs).drop(columns="predicted"),
    }


def figures(targets: dict[str, Any], truth: Indices, outputs: Floats) -> dict[str, Figure]:
    """Return the figures `confusion` (rows normalised, counts written in) and `f1_per_label`."""
    from audioml.tasks._figures import draw_bars, draw_confusion

    n = len(targets["labels"])
    counts = np.bincount(truth * n + _predict(outputs), minlength=n * n).reshape(n, n)
    per_label = _score_labels(targets, truth, outputs)
    return {
        "confusion": draw_confusion(counts, targets["labels"]),
        "f1_per_label": draw_bars(per_label["f1"].to_numpy(), targets["labels"], per_label["support"].to_numpy(), "F1"),
    }


def _predict(outputs: Floats) -> Indices:
    predicted: Indices = outputs.argmax(axis=1)
    return predicted


def _score_labels(targets: dict[str, Any], truth: Indices, outputs: Floats) -> pd.DataFrame:
    import pandas as pd
    from sklearn.metrics import precision_recall_fscore_support

    labels = targets["labels"]
    predicted = _predict(outputs)
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, labels=np.arange(len(labels)), zero_division=0.0
    )
    return pd.DataFrame(
        {
            "label": labels,
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "support": support,
            "predicted": np.bincount(predicted, minlength=len(labels)),
        }
    )
