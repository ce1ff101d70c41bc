"""Who speaks: an embedding of each clip, near those of the same speaker and far from those of others.

The column `label` holds the speaker. A network learns to tell the training speakers apart by the angle between a
clip's embedding and a direction for each, with a margin; what it has learned serves speakers that it never heard:
two clips are of one speaker where the cosine between their embeddings, their similarity, is high. `targets` holds the
training speakers as ``labels``; `tune_outputs` adds ``accept_above``, the similarity at which as many of the
validation clips' pairs are accepted wrongly as are rejected wrongly. A clip's output is float32 ``(embedding +
labels,)``: its embedding, of length 1, then its similarity to each training speaker.

Sources: pooling of mean and deviation over frames: Snyder et al., "X-Vectors: Robust DNN Embeddings for Speaker
Recognition", ICASSP 2018; the loss: Wang, Cheng, Liu, Liu, "Additive Margin Softmax for Face Verification", IEEE Signal
Processing Letters 25(7), 2018 (arXiv 1801.05599). torch, pandas and matplotlib are imported where they are used:
serving needs none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from audioml.errors import DatasetError
from audioml.params import Section

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from torch import Tensor, nn

PRIMARY = "eer"
"""Equal error rate: where as large a share of pairs of one speaker is rejected as of pairs of two is accepted."""
HIGHER_IS_BETTER = False
OPEN_SET = True
"""Test clips may be of speakers that training never heard."""
LISTS = {"embedding": float}
"""What the lists of an answer hold, by name."""
REPORTED = ("error_rates", "similarities")
"""Figures that the report shows beside the tables."""
MAX_TRIALS = 50_000
"""Pairs of clips that are compared, at most; of more, all of one speaker are kept that fit in half, and some others."""
TARGET_PRIOR, MISS_COST, FALSE_ALARM_COST = 0.01, 1.0, 1.0
"""Of the detection cost, as in NIST's speaker recognition evaluations."""
RESAMPLES_AT_ONCE = 50

Floats = NDArray[np.float32]
Weights = NDArray[np.float64]


class Params(Section):
    """How large embeddings are, and how they are learned."""

    embedding: Annotated[int, Field(ge=2)] = 128
    """Numbers in an embedding."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """By how much the cosine to the own speaker must exceed those to others."""
    scale: Annotated[float, Field(gt=0)] = 30.0
    """What cosines are multiplied by before the softmax."""


def fit_targets(params: Params, manifest: pd.DataFrame) -> dict[str, Any]:
    """Return the training speakers, sorted.

    Raises
    ------
    DatasetError
        When there are fewer than two.
    """
    labels = sorted({str(label) for label in manifest["label"]})
    if len(labels) < 2:
        raise DatasetError(
            f"Telling speakers apart needs clips of at least 2 for training, but there are {len(labels)}: {labels}. "
            "Add recordings of another speaker, or name the column of speakers with data.label."
        )
    return {"labels": labels, "embedding": params.embedding}


def encode_targets(params: Params, targets: dict[str, Any], manifest: pd.DataFrame) -> Floats:
    """Return float32 (clips, labels), one row a clip: 1 at its speaker, else 0.

    Raises
    ------
    DatasetError
        When a clip is of another speaker.
    """
    position = {label: i for i, label in enumerate(targets["labels"])}
    if unknown := sorted({str(label) for label in manifest["label"]} - set(position)):
        raise DatasetError(
            f"The speakers {unknown[:5]} are in validation only, but the loss there is that of telling training "
            "speakers apart. Set split.group to null, so that validation clips are of the training speakers; for "
            "speakers that are never heard name the test set with split.test."
        )
    encoded: Floats = np.eye(len(position), dtype=np.float32)[[position[str(label)] for label in manifest["label"]]]
    return encoded


def build_head(params: Params, targets: dict[str, Any], width: int) -> nn.Module:
    """Return what maps (n, width, frames) to (n, embedding + labels): embeddings of length 1, and similarities."""
    from audioml.tasks._speaker_head import SpeakerHead

    return SpeakerHead(width, params.embedding, len(targets["labels"]))


def loss(params: Params, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean additive-margin softmax loss of outputs (n, embedding + labels) against (n, labels)."""
    return losses(params, outputs, targets).mean()


def losses(params: Params, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each row, (n,); of soft targets each speaker has as much of the margin as of the target."""
    from torch.nn.functional import cross_entropy

    similarity = outputs[:, params.embedding :]
    return cross_entropy(params.scale * (similarity - params.margin * targets), targets, reduction="none")


def classes(truth: NDArray[np.object_]) -> NDArray[np.int64]:
    """Return the speaker of each clip as a number, int64 (clips,)."""
    return np.unique(truth.astype(str), return_inverse=True)[1].astype(np.int64)


def merge_tracks(
    targets: dict[str, Any], outputs: Floats, offsets_s: NDArray[np.float64], durations_s: NDArray[np.float64]
) -> Floats:
    """Return float32 (embedding + labels,): the mean of the windows' embeddings, made of length 1, and similarities."""
    mean = outputs.astype(np.float64).mean(axis=0)
    # Similarities are linear in the embedding.
    merged: Floats = (mean / max(float(np.linalg.norm(mean[: targets["embedding"]])), 1e-12)).astype(np.float32)
    return merged


def tune_outputs(
    params: Params, targets: dict[str, Any], truth: NDArray[np.object_], outputs: Floats
) -> dict[str, Any]:
    """Return the targets with ``accept_above``, the similarity at the equal error rate of these clips' pairs."""
    trials = make_trials(targets, truth, outputs)
    if not trials.same.any() or trials.same.all():
        return targets
    return targets | {"accept_above": round(float(_equal_error(trials)[1]), 4)}


def describe(targets: dict[str, Any], output: Floats) -> dict[str, Any]:
    """Return the training speaker that is nearest, the similarity to that one, and the embedding."""
    n = targets["embedding"]
    nearest = int(output[n:].argmax())
    embedding = [round(float(value), 6) for value in output[:n]]
    return {"speaker": targets["labels"][nearest], "similarity": float(output[n + nearest]), "embedding": embedding}


def embeddings(targets: dict[str, Any], outputs: Floats) -> Floats:
    """Return the embeddings of clips, float32 (clips, embedding), of length 1."""
    return outputs[:, : targets["embedding"]]


def truth(targets: dict[str, Any], manifest: pd.DataFrame) -> NDArray[np.object_]:
    """Return the speaker of each clip, whether training has heard of it or not, str in an array of objects."""
    return manifest["label"].astype(str).to_numpy(dtype=object)


def score_clips(targets: dict[str, Any], truth: NDArray[np.object_], outputs: Floats) -> NDArray[np.float64]:
    """Return float64 (clips, 2): of the pairs that a clip is in, those wrong at the equal error rate; and all."""
    trials = make_trials(targets, truth, outputs)
    if not trials.same.any() or trials.same.all():
        return np.zeros((len(truth), 2))
    wrong = (trials.similarity > _equal_error(trials)[1]) != trials.same
    pairs = np.concatenate([trials.first, trials.second])
    errors = np.bincount(pairs, np.concatenate([wrong, wrong]), len(truth))
    return np.stack([errors, np.bincount(pairs, minlength=len(truth))], axis=1).astype(np.float64)


def score_resamples(
    targets: dict[str, Any], truth: NDArray[np.object_], outputs: Floats, counts: NDArray[Any]
) -> Weights:
    """Return the equal error rate of each resample, float64 (resamples,); NaN where a kind of pair is missing.

    A pair of clips comes as often as one comes times how often the other does; a clip is no pair with itself.
    """
    trials = make_trials(targets, truth, outputs)
    order = np.argsort(trials.similarity, kind="stable")
    same, first, second = trials.same[order], trials.first[order], trials.second[order]
    rates = []
    for start in range(0, len(counts), RESAMPLES_AT_ONCE):
        some = np.asarray(counts[start : start + RESAMPLES_AT_ONCE], np.float64)
        weights = some[:, first] * some[:, second]
        rates.append(_crossing(np.where(same, weights, 0.0), np.where(same, 0.0, weights)))
    return np.concatenate(rates)


def measure(targets: dict[str, Any], truth: NDArray[np.object_], outputs: Floats) -> dict[str, float]:
    """Return the equal error rate, the least detection cost, the number of pairs, and how well clips are identified.

    ``min_dcf`` is the detection cost at the best threshold over that of the better of accepting all and rejecting
    all (NIST SRE 2016, section 3). With `accept_above`, ``false_accepts`` and ``false_rejects`` are the shares of pairs
    at that threshold. ``identified`` is the share of clips by training speakers whose nearest training speaker is the
    right one, where there are such clips.
    """
    trials = make_trials(targets, truth, outputs)
    n_same, n_trials = int(trials.same.sum()), len(trials.same)
    metrics: dict[str, float] = {}
    if 0 < n_same < n_trials:
        metrics |= {PRIMARY: _equal_error(trials)[0], "min_dcf": _least_cost(trials)}
        if "accept_above" in targets:
            accepted = trials.similarity > targets["accept_above"]
            metrics["false_accepts"] = float(accepted[~trials.same].mean())
            metrics["false_rejects"] = float((~accepted)[trials.same].mean())
    known = np.isin(truth.astype(str), targets["labels"])
    if known.any():
        nearest = np.asarray(targets["labels"])[outputs[known, targets["embedding"] :].argmax(axis=1)]
        metrics["identified"] = float((nearest == truth[known].astype(str)).mean())
    return metrics | {"pairs": float(n_trials), "pairs_of_one_speaker": float(n_same)}


def tables(targets: dict[str, Any], truth: NDArray[np.object_], outputs: Floats) -> dict[str, pd.DataFrame]:
    """Return `per_speaker`: clips, and the share of wrong pairs, the worst first."""
    import pandas as pd

    speakers, of_clip = np.unique(truth.astype(str), return_inverse=True)
    errors, pairs = score_clips(targets, truth, outputs).T
    per_speaker = pd.DataFrame(
        {
            "speaker": speakers,
            "n": np.bincount(of_clip),
            "wrong_pairs": np.bincount(of_clip, errors) / np.maximum(np.bincount(of_clip, pairs), 1),
        }
    ).sort_values("wrong_pairs", ascending=False, kind="stable")
    return {"per_speaker": per_speaker}


def figures(targets: dict[str, Any], truth: NDArray[np.object_], outputs: Floats) -> dict[str, Figure]:
    """Return `error_rates` by threshold, and `similarities` of pairs of one speaker and of two."""
    from audioml.tasks._figures import draw_error_rates, draw_similarities

    trials = make_trials(targets, truth, outputs)
    chosen = targets.get("accept_above")
    return {
        "error_rates": draw_error_rates(*_error_rates(trials), chosen),
        "similarities": draw_similarities(trials.similarity[trials.same], trials.similarity[~trials.same], chosen),
    }


class Trials(NamedTuple):
    """Pairs of different clips."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    same: NDArray[np.bool_]
    """Whether both are of one speaker."""
    similarity: NDArray[np.float64]
    """The cosine between both embeddings."""


def make_trials(targets: dict[str, Any], truth: NDArray[np.object_], outputs: Floats) -> Trials:
    """Return all pairs of clips; of more than `MAX_TRIALS`, a draw that is the same for the same speakers."""
    first, second = np.triu_indices(len(truth), 1)
    speaker = classes(truth)
    same = speaker[first] == speaker[second]
    if len(same) > MAX_TRIALS:
        generator = np.random.default_rng(0)
        kinds = [np.flatnonzero(same), np.flatnonzero(~same)]
        n_same = min(len(kinds[0]), MAX_TRIALS // 2)
        sizes = (n_same, min(len(kinds[1]), MAX_TRIALS - n_same))
        chosen = np.sort(
            np.concatenate([generator.choice(kind, n, replace=False) for kind, n in zip(kinds, sizes, strict=True)])
        )
        first, second, same = first[chosen], second[chosen], same[chosen]
    vectors = embeddings(targets, outputs).astype(np.float64)
    return Trials(first, second, same, np.einsum("ij,ij->i", vectors[first], vectors[second]))


def _error_rates(trials: Trials) -> tuple[Weights, Weights, Weights]:
    """Return thresholds in rising order, and the shares of false rejections and of false acceptances at each.

    A pair is accepted where its similarity is above the threshold; the first accepts all.
    """
    order = np.argsort(trials.similarity, kind="stable")
    same = trials.same[order]
    thresholds = np.concatenate([[-1.0], trials.similarity[order]])
    rejects = np.concatenate([[0], np.cumsum(same)]) / max(1, int(same.sum()))
    accepts = 1 - np.concatenate([[0], np.cumsum(~same)]) / max(1, int((~same).sum()))
    return thresholds, rejects, accepts


def _equal_error(trials: Trials) -> tuple[float, float]:
    """Return the equal error rate, and the threshold there.

    Between two pairs both are interpolated. Where several thresholds make as many errors of both kinds, as where pairs
    of one speaker and of two lie apart, it is the one in the middle.
    """
    thresholds, rejects, accepts = _error_rates(trials)
    difference = rejects - accepts
    rate, threshold = np.interp(0.0, difference, rejects), np.interp(0.0, difference, thresholds)
    if len(equal := np.flatnonzero(difference == 0)):
        threshold = thresholds[[equal[0], min(equal[-1] + 1, len(thresholds) - 1)]].mean()
    return float(rate), float(threshold)


def _crossing(same: Weights, different: Weights) -> Weights:
    """Return the equal error rate of each row of weights, (rows, pairs in rising similarity)."""
    n_same, n_different = same.sum(axis=1), different.sum(axis=1)
    there = (n_same > 0) & (n_different > 0)
    rates = np.full(len(same), np.nan)
    if not there.any():
        return rates
    rejects = np.cumsum(same[there], axis=1) / n_same[there, None]
    difference = rejects - 1 + np.cumsum(different[there], axis=1) / n_different[there, None]
    # The first threshold accepts all.
    at = (difference >= 0).argmax(axis=1)
    rows, before = np.arange(len(at)), np.maximum(at - 1, 0)
    high, high_rejects = difference[rows, at], rejects[rows, at]
    low = np.where(at > 0, difference[rows, before], -1.0)
    low_rejects = np.where(at > 0, rejects[rows, before], 0.0)
    rates[there] = low_rejects + (high_rejects - low_rejects) * -low / (high - low)
    return rates


def _least_cost(trials: Trials) -> float:
    _, rejects, accepts = _error_rates(trials)
    cost = MISS_COST * TARGET_PRIOR * rejects + FALSE_ALARM_COST * (1 - TARGET_PRIOR) * accepts
    return float(cost.min() / min(MISS_COST * TARGET_PRIOR, FALSE_ALARM_COST * (1 - TARGET_PRIOR)))
