"""One label for each clip.

`targets` is ``{"labels": [...]}``, sorted; a clip's output is one probability per label, in that order. With
`unknown_share`, `targets` also holds ``unknown_below``: a clip whose largest probability is lower is ``unknown``.
torch, scikit-learn, pandas and matplotlib are imported where they are used: serving needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from audioml.errors import DatasetError, ParamsError
from audioml.params import Section

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor, nn

PRIMARY = "accuracy"
"""Name of the metric that models are compared by, where params name no other."""

UNKNOWN = "unknown"
"""The label of what sounds like none of the labels."""

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


class Params(Section):
    """How labels are learned."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of each target spread evenly over all labels (Szegedy et al. 2016, section 7)."""
    calibrate: bool = True
    """Divide the outputs by a temperature fitted on the validation clips, so that of answers given with a
    probability of 0.8 about 80 % are right (Guo et al. 2017)."""
    pooling: Literal["mean", "mean_and_max"] = "mean"
    """What the last layer sees of the frames: their mean, or beside it the largest value of each channel, in which a
    short sound in a long window does not drown."""
    metric: Literal["accuracy", "uar"] = "accuracy"
    """What models are compared by: `uar`, the unweighted average recall, counts each label the same however many clips
    it has, as is usual for emotions (Schuller et al. 2009)."""
    unknown_share: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Answer unknown where the largest probability is below a threshold, set so that at most this share of the
    validation clips is rejected (Hendrycks and Gimpel 2017); None always answers with a label."""


def fit_targets(params: Params, manifest: pd.DataFrame) -> dict[str, Any]:
    """Return the labels of the training clips, sorted.

    Raises
    ------
    DatasetError
        When there are fewer than two.
    ParamsError
        When one has the name of the answer to what is like none of them.
    """
    labels = sorted({str(label) for label in manifest["label"]})
    if len(labels) < 2:
        raise DatasetError(
            f"Classification needs clips of at least 2 labels for training, but there are {len(labels)}: {labels}. "
            "Add recordings of another class, or choose another column with data.label."
        )
    if params.unknown_share is not None and UNKNOWN in labels:
        raise ParamsError(
            f"params.yaml: 'task.unknown_share' answers {UNKNOWN!r} where the model is not sure, but a label has that "
            "name, so nobody could tell them apart. Rename the label, or set unknown_share to null."
        )
    return {"labels": labels} | ({"metric": params.metric} if params.metric != PRIMARY else {})


def encode_targets(params: Params, targets: dict[str, Any], manifest: pd.DataFrame) -> Floats:
    """Return float32 (clips, labels), one row a clip: 1 at its label, else 0."""
    encoded: Floats = np.eye(len(targets["labels"]), dtype=np.float32)[truth(targets, manifest)]
    return encoded


def build_head(params: Params, targets: dict[str, Any], width: int) -> nn.Module:
    """Return the pooling over frames and a linear layer: (n, width, frames) to logits (n, labels)."""
    from torch import nn

    n_labels = len(targets["labels"])
    if params.pooling == "mean":
        return nn.Sequential(nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, n_labels))
    from audioml.tasks._pooling import MeanAndMax

    return nn.Sequential(MeanAndMax(), nn.Linear(2 * width, n_labels))


def loss(params: Params, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits (n, labels) against soft targets (n, labels)."""
    return losses(params, outputs, targets).mean()


def losses(params: Params, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the cross-entropy of each row, (n,)."""
    from torch.nn.functional import cross_entropy

    return cross_entropy(outputs, targets, label_smoothing=params.label_smoothing, reduction="none")


def merge_outputs(outputs: Floats) -> Floats:
    """Return float32 (labels,): the mean over windows of the softmax of logits (windows, labels)."""
    shifted = outputs - outputs.max(axis=1, keepdims=True)
    weights = np.exp(shifted, dtype=np.float64)
    merged: Floats = (weights / weights.sum(axis=1, keepdims=True)).mean(axis=0).astype(np.float32)
    return merged


def calibration_loss(truth: Indices, outputs: Floats) -> float:
    """Return the mean cross-entropy of merged outputs (clips, labels): what a temperature makes least.

    A model that gets all validation clips right would seem the better the surer it is, without bound. So the targets
    are those that n clips support, not 0 and 1: the label has (n + 1) / (n + 2), and the others share the rest
    (Platt 1999, section 2.2, for more than two labels).
    """
    n, n_labels = outputs.shape
    logs = np.log(np.maximum(outputs.astype(np.float64), 1e-12))
    right = logs[np.arange(n), truth]
    others = (logs.sum(axis=1) - right) / (n_labels - 1)
    return float(-((n + 1) * right + others).mean() / (n + 2))


def tune_outputs(params: Params, targets: dict[str, Any], truth: Indices, outputs: Floats) -> dict[str, Any]:
    """Return `targets` with ``unknown_below``, where `unknown_share` asks for it.

    It is the largest threshold below which no more than that share of these clips' largest probabilities lie.
    """
    if params.unknown_share is None:
        return targets
    confidence = np.sort(outputs.max(axis=1))
    return targets | {"unknown_below": float(confidence[int(params.unknown_share * len(confidence))])}


def describe(targets: dict[str, Any], output: Floats) -> dict[str, Any]:
    """Return the label, its probability, and all probabilities by label, largest first.

    With ``unknown_below``, the label is `unknown` where the probability is lower, and ``nearest`` the label that
    has it.
    """
    order = np.argsort(-output, kind="stable")
    probabilities = {targets["labels"][i]: float(output[i]) for i in order}
    label = next(iter(probabilities))
    answer = {"probability": probabilities[label], "probabilities": probabilities}
    if "unknown_below" not in targets:
        return {"label": label, **answer}
    return {"label": UNKNOWN if output.max() < targets["unknown_below"] else label, "nearest": label, **answer}


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


def is_ratio(targets: dict[str, Any]) -> bool:
    """Tell whether the metric is a ratio of sums over clips, as accuracy is."""
    return "metric" not in targets


def score_resamples(
    targets: dict[str, Any], truth: Indices, outputs: Floats, counts: NDArray[Any]
) -> NDArray[np.float64]:
    """Return the unweighted average recall of each resample, float64 (resamples,).

    Source: Schuller, Steidl, Batliner, "The INTERSPEECH 2009 Emotion Challenge", section 3. Labels that a resample has
    no clips of are left out of its mean.

    Parameters
    ----------
    counts
        How often each clip is in each resample, ``(resamples, clips)``.
    """
    of_label = truth[:, None] == np.arange(len(targets["labels"]))
    there = np.asarray(counts, np.float64) @ of_label
    right = np.asarray(counts, np.float64) @ (of_label & (_predict(outputs) == truth)[:, None])
    recalls = np.divide(right, there, out=np.zeros_like(there), where=there > 0)
    scores: NDArray[np.float64] = recalls.sum(axis=1) / np.maximum((there > 0).sum(axis=1), 1)
    return scores


def measure(targets: dict[str, Any], truth: Indices, outputs: Floats) -> dict[str, float]:
    """Return accuracy, macro means over the labels, and ``f1/<label>`` for each; ``uar`` where it is the metric.

    With ``unknown_below``, also ``rejected_share``, the clips that would be answered with `unknown`, and
    ``accuracy_of_accepted``, the accuracy of the others; all else is measured without rejecting any.

    A label that is never predicted has precision 0; one without clips has recall 0 and counts in the means
    only if it was predicted. Each is as in `sklearn.metrics`.
    """
    per_label = _score_labels(targets, truth, outputs)
    seen = per_label[(per_label["support"] > 0) | (per_label["predicted"] > 0)]
    metrics = {"accuracy": float(np.mean(_predict(outputs) == truth))}
    if not is_ratio(targets):
        metrics["uar"] = float(score_resamples(targets, truth, outputs, np.ones((1, len(truth))))[0])
    metrics |= {f"macro_{name}": float(seen[name].mean()) for name in ("precision", "recall", "f1")}
    if "unknown_below" in targets:
        accepted = outputs.max(axis=1) >= targets["unknown_below"]
        metrics["rejected_share"] = float(np.mean(~accepted))
        if accepted.any():
            metrics["accuracy_of_accepted"] = float(np.mean((_predict(outputs) == truth)[accepted]))
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
