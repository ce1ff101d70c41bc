"""Metrics of rankings, on clips that count several times or not at all, as a bootstrap draws them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def average_precisions(truth: ArrayLike, scores: ArrayLike, counts: ArrayLike) -> Floats:
    """Return the average precision in each resample of the clips.

    The sum over distinct scores of precision times the gain in recall, as
    `sklearn.metrics.average_precision_score` with ``counts`` as weights; all resamples at once.

    Parameters
    ----------
    truth
        bool ``(clips,)``: has the clip the label.
    scores
        ``(clips,)``: larger means surer.
    counts
        ``(resamples, clips)``: how often each clip is there.

    Returns
    -------
    ndarray
        float64 ``(resamples,)``; NaN where no clip has the label.
    """
    scores = np.asarray(scores)
    order = np.argsort(-scores, kind="stable")
    drawn = np.asarray(counts, dtype=np.float64)[:, order]
    # Clips of equal scores are in one step of the curve.
    ends = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    right = np.cumsum(drawn * np.asarray(truth, dtype=bool)[order], axis=1)[:, ends]
    found = np.cumsum(drawn, axis=1)[:, ends]
    precision = np.divide(right, found, out=np.zeros_like(right), where=found > 0)
    total = right[:, -1]
    summed = (precision * np.diff(right, axis=1, prepend=0.0)).sum(axis=1)
    precisions: Floats = np.divide(summed, total, out=np.full(len(total), np.nan), where=total > 0)
    return precisions


def mean_average_precisions(truth: NDArray[np.bool_], outputs: NDArray[np.float32], counts: ArrayLike) -> Floats:
    """Return mAP in each resample: the mean of average precisions over the labels that some clip there has.

    Parameters
    ----------
    truth, outputs
        ``(clips, labels)``.
    counts
        ``(resamples, clips)``: how often each clip is there.

    Returns
    -------
    ndarray
        float64 ``(resamples,)``; NaN where no clip has any label.
    """
    each = np.stack([average_precisions(truth[:, i], outputs[:, i], counts) for i in range(truth.shape[1])])
    known = ~np.isnan(each)
    sums, n_known = np.where(known, each, 0.0).sum(axis=0), known.sum(axis=0)
    means: Floats = np.divide(sums, n_known, out=np.full(len(sums), np.nan), where=n_known > 0)
    return means


def label_weighted_ranking(truth: NDArray[np.bool_], outputs: NDArray[np.float32]) -> float:
    """Return lwlrap: the mean over all true (clip, label) pairs of the precision at the label's rank in its clip.

    Source: Fonseca et al., "Audio tagging with noisy labels and minimal supervision", DCASE 2019 (arXiv
    1906.02975), section 4.1. NaN when no clip has a label. A label of equal score counts as ranked before.
    """
    clips, labels = np.nonzero(truth)
    if not len(clips):
        return float("nan")
    before = outputs[clips] >= outputs[clips, labels][:, np.newaxis]
    return float(((before & truth[clips]).sum(axis=1) / before.sum(axis=1)).mean())


def best_threshold(truth: NDArray[np.bool_], scores: NDArray[np.float32], default: float) -> float:
    """Return the threshold of highest F1, midway between two scores; `default` when no or each clip has the label.

    Source: Lipton, Elkan, Naryanaswamy, "Optimal Thresholding of Classifiers to Maximize F1 Measure", ECML 2014,
    section 4: for given scores, the best cut lies between two neighbours in their order.
    """
    if truth.all() or not truth.any():
        return default
    order = np.argsort(-scores, kind="stable")
    sorted_scores = scores[order].astype(np.float64)
    ends = np.append(np.flatnonzero(np.diff(sorted_scores)), len(order) - 1)
    right = np.cumsum(truth[order])[ends]
    f1 = 2 * right / (ends + 1 + truth.sum())
    best = int(np.argmax(f1))
    below = sorted_scores[ends[best] + 1] if best + 1 < len(ends) else 0.0
    return float((sorted_scores[ends[best]] + below) / 2)
