"""Any number of labels for each clip.

`targets` holds the ``labels``, sorted, the ``threshold`` of each, and the ``separator``; a clip's output is one
probability per label, in that order, each on its own. A clip labelled ``(none)`` has none of them.
torch, scikit-learn, pandas and matplotlib are imported where they are used: serving needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from audioml.errors import DatasetError
from audioml.labels import split_tags
from audioml.params import Section
from audioml.tasks._ranking import (
    average_precisions,
    best_threshold,
    label_weighted_ranking,
    mean_average_precisions,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor, nn

PRIMARY = "map"
"""Mean average precision over the labels, which `score_resamples` gives."""
MIN_LABELS = 1
LISTS = {"tags": str}
"""What the lists of an answer hold, by name."""
REPORTED = ("precision_recall",)
"""Figures that the report shows beside the tables."""
THRESHOLD = 0.5
"""Until `tune_outputs` has chosen others."""

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]


class Params(Section):
    """How labels are read."""

    separator: Annotated[str, Field(min_length=1)] = ";"
    """What stands between the labels of a clip, in the column `data.label`."""


def labels_of(params: Params, manifest: pd.DataFrame) -> list[list[str]]:
    """Return the labels of each clip, sorted."""
    return [split_tags(str(label), params.separator) for label in manifest["label"]]


def fit_targets(params: Params, manifest: pd.DataFrame) -> dict[str, Any]:
    """Return the labels of the training clips, sorted, with a threshold of 0.5 each.

    Raises
    ------
    DatasetError
        When there is none.
    """
    labels = sorted({label for tags in labels_of(params, manifest) for label in tags})
    if not labels:
        raise DatasetError(
            f"Tagging needs training clips with labels, but none of {len(manifest)} has any. Label some, or choose "
            "another column with data.label."
        )
    return {"labels": labels, "thresholds": [THRESHOLD] * len(labels), "separator": params.separator}


def encode_targets(params: Params, targets: dict[str, Any], manifest: pd.DataFrame) -> Floats:
    """Return float32 (clips, labels): 1 at each of a clip's labels, else 0."""
    return truth(targets, manifest).astype(np.float32)


def build_head(params: Params, targets: dict[str, Any], width: int) -> nn.Module:
    """Return the mean over frames and a linear layer: (n, width, frames) to logits (n, labels)."""
    from torch import nn

    return nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, len(targets["labels"])))


def loss(params: Params, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean binary cross-entropy of logits (n, labels) against soft targets (n, labels)."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(outputs, targets)


def merge_outputs(outputs: Floats) -> Floats:
    """Return float32 (labels,): the mean over windows of the sigmoid of logits (windows, labels)."""
    from scipy.special import expit

    merged: Floats = expit(outputs.astype(np.float64)).mean(axis=0).astype(np.float32)
    return merged


def tune_outputs(params: Params, targets: dict[str, Any], truth: Bools, outputs: Floats) -> dict[str, Any]:
    """Return the targets with the thresholds that give each label its highest F1 on these clips.

    A label that none of the clips has, or all of them have, keeps its threshold.
    """
    thresholds = [
        best_threshold(truth[:, i], outputs[:, i], default) for i, default in enumerate(targets["thresholds"])
    ]
    return {**targets, "thresholds": thresholds}


def describe(targets: dict[str, Any], output: Floats) -> dict[str, Any]:
    """Return the tags whose probability reaches their threshold, and all probabilities by label, largest first."""
    order = np.argsort(-output, kind="stable")
    tags = [targets["labels"][i] for i in order if float(output[i]) >= targets["thresholds"][i]]
    return {"tags": tags, "probabilities": {targets["labels"][i]: float(output[i]) for i in order}}


def truth(targets: dict[str, Any], manifest: pd.DataFrame) -> Bools:
    """Return bool (clips, labels): has the clip the label.

    Raises
    ------
    DatasetError
        When a clip has a label that no training clip has.
    """
    position = {label: i for i, label in enumerate(targets["labels"])}
    tags = labels_of(Params(separator=targets["separator"]), manifest)
    if unknown := sorted({label for labels in tags for label in labels} - set(position)):
        raise DatasetError(
            f"The labels {unknown} have no clip for training, so they cannot be learned or judged "
            f"(there are: {', '.join(targets['labels'])}). Add clips of them, remove them, or split otherwise."
        )
    found = np.zeros((len(manifest), len(position)), dtype=bool)
    for clip, labels in enumerate(tags):
        found[clip, [position[label] for label in labels]] = True
    return found


def score_resamples(targets: dict[str, Any], truth: Bools, outputs: Floats, counts: ArrayLike) -> NDArray[np.float64]:
    """Return mAP (resamples,) where each clip is there as often as ``counts`` (resamples, clips) says."""
    return mean_average_precisions(truth, outputs, counts)


def score_clips(targets: dict[str, Any], truth: Bools, outputs: Floats) -> NDArray[np.float64]:
    """Return float64 (clips, 2): twice the right tags; and that, the wrong and the missed ones. Their ratio is F1."""
    predicted = _predict(targets, outputs)
    right = 2 * (predicted & truth).sum(axis=1)
    return np.stack([right, predicted.sum(axis=1) + truth.sum(axis=1)], axis=1).astype(np.float64)


def measure(targets: dict[str, Any], truth: Bools, outputs: Floats) -> dict[str, float]:
    """Return mAP, lwlrap, micro and macro F1, and ``ap/<label>`` and ``f1/<label>`` for each.

    A label that none of these clips has is in no mean, and has no figure of its own.
    """
    per_label = _score_labels(targets, truth, outputs)
    seen = per_label[per_label["support"] > 0]
    right, weight = score_clips(targets, truth, outputs).sum(axis=0)
    metrics = {
        "map": float(seen["ap"].mean()),
        "lwlrap": label_weighted_ranking(truth, outputs),
        "micro_f1": float(right / weight) if weight else 0.0,
        "macro_f1": float(seen["f1"].mean()),
    }
    for name in ("ap", "f1"):
        metrics |= {f"{name}/{label}": float(value) for label, value in zip(seen["label"], seen[name], strict=True)}
    return metrics


def tables(targets: dict[str, Any], truth: Bools, outputs: Floats) -> dict[str, pd.DataFrame]:
    """Return `per_label` (ap, precision, recall, f1, threshold, support) and `taken_for`.

    The second lists labels that are missed while another is wrongly given, most frequent first.
    """
    return {
        "per_label": _score_labels(targets, truth, outputs),
        "taken_for": _count_confusions(targets, truth, outputs),
    }


def figures(targets: dict[str, Any], truth: Bools, outputs: Floats) -> dict[str, Figure]:
    """Return the figures `ap_per_label` and `precision_recall`, of the labels that some clip has."""
    from audioml.tasks._figures import draw_bars, draw_precision_recall

    per_label = _score_labels(targets, truth, outputs)
    seen = np.flatnonzero(per_label["support"])
    labels = [targets["labels"][i] for i in seen]
    if not labels:
        return {}
    bars = draw_bars(per_label["ap"].to_numpy()[seen], labels, per_label["support"].to_numpy()[seen], "AP")
    return {"ap_per_label": bars, "precision_recall": draw_precision_recall(truth[:, seen], outputs[:, seen], labels)}


def _predict(targets: dict[str, Any], outputs: Floats) -> Bools:
    predicted: Bools = outputs >= np.asarray(targets["thresholds"])
    return predicted


def _score_labels(targets: dict[str, Any], truth: Bools, outputs: Floats) -> pd.DataFrame:
    import pandas as pd

    predicted, once = _predict(targets, outputs), np.ones((1, len(truth)))
    right, given, support = ((predicted & truth).sum(axis=0), predicted.sum(axis=0), truth.sum(axis=0))
    return pd.DataFrame(
        {
            "label": targets["labels"],
            "ap": [average_precisions(truth[:, i], outputs[:, i], once)[0] for i in range(truth.shape[1])],
            "precision": right / np.maximum(given, 1),
            "recall": right / np.maximum(support, 1),
            "f1": 2 * right / np.maximum(given + support, 1),
            "threshold": targets["thresholds"],
            "support": support,
        }
    )


def _count_confusions(targets: dict[str, Any], truth: Bools, outputs: Floats) -> pd.DataFrame:
    """Return how often a label is missed in a clip that is given another one wrongly: missed, given, clips."""
    import pandas as pd

    predicted = _predict(targets, outputs)
    counts = (truth & ~predicted).T.astype(np.int64) @ (predicted & ~truth).astype(np.int64)
    rows = [
        (targets["labels"][i], targets["labels"][j], int(counts[i, j]))
        for i, j in np.argwhere(counts > 0)[np.argsort(-counts[counts > 0], kind="stable")]
    ]
    return pd.DataFrame(rows, columns=["missed", "given", "clips"])
