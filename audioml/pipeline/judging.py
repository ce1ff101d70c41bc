"""What evaluation finds out about a model: on stored features, in noise, by what it heeds, by what it costs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from audioml.audio.recordings import list_recordings
from audioml.errors import ParamsError, StepError
from audioml.evaluation.calibration import merger
from audioml.evaluation.cost import Cost, measure_cost
from audioml.evaluation.explanation import Explanation, attribute, choose_clips, draw_attribution
from audioml.evaluation.intervals import Groups, make_intervals
from audioml.evaluation.learning_curve import Point, judge_shares
from audioml.evaluation.outputs import run_stored
from audioml.evaluation.robustness import load_noise, predict_in_noise
from audioml.evaluation.unknown import MAX_RECORDINGS, Strangers, judge_strangers
from audioml.inference.predictor import Predictor
from audioml.labels import show_labels
from audioml.params import FILE_NAME
from audioml.pipeline.context import Context
from audioml.store.clips import FOLDER as AUDIO
from audioml.store.clips import read_clips
from audioml.store.features import FeatureSet
from audioml.store.parts import PARTS, list_shares, read_outputs, read_targets, splits_of
from audioml.tasks._outputs import stack
from audioml.training.seeds import derive_seed

PACKAGE, CHECKPOINT = "models/package", "models/checkpoint.ckpt"
READ_CLIPS = 16
"""Clips whose audio is held at a time."""
MIN_BINS = 8
"""Features with fewer are no picture."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Clips of one split with what the model made of them, in the same order throughout."""

    manifest: pd.DataFrame
    truth: Any
    """What the task compares with."""
    outputs: NDArray[Any]
    """``(clips, ...)``; objects, an array each, where they differ in shape."""
    uncalibrated: NDArray[Any]
    """The outputs without the model's temperature."""
    scores: NDArray[np.float64]
    """Numerator and denominator of each clip's primary metric, ``(clips, 2)``."""
    metrics: dict[str, float]


def judge_clips(features: FeatureSet, predictor: Predictor, manifest: pd.DataFrame) -> Judged | None:
    """Run the model on the stored features of clips and compare with the truth; None without clips."""
    if manifest.empty:
        return None
    manifest = manifest.reset_index(drop=True)
    task, targets = predictor.task, predictor.description.targets
    merge = merger(predictor, *run_stored(predictor, features, manifest["clip_id"].tolist()))
    temperature = predictor.description.temperature
    outputs = merge(temperature)
    uncalibrated = outputs if temperature == 1 else merge(1.0)
    truth = task.truth(targets, manifest)
    scores = task.score_clips(targets, truth, outputs)
    return Judged(manifest, truth, outputs, uncalibrated, scores, task.measure(targets, truth, outputs))


def measure_in_noise(ctx: Context, predictor: Predictor, test: Judged, groups: Groups | None) -> pd.DataFrame:
    """Return the primary metric of drawn test clips as they are (``snr_db`` NaN) and in noise: a row a ratio.

    The columns are ``snr_db``, ``n``, ``metric``, ``low``, ``high``; no rows where params ask for no noise.
    """
    params, task = ctx.params.evaluate, predictor.task
    columns = ["snr_db", "n", "metric", "low", "high"]
    if not params.noise_snrs_db:
        return pd.DataFrame(columns=columns)
    generator = np.random.default_rng(derive_seed(ctx.params.seed, "noise clips"))
    n = len(test.manifest)
    chosen = np.sort(generator.choice(n, min(n, params.noise_clips), replace=False))
    clips = test.manifest.iloc[chosen]
    snrs_db = sorted(params.noise_snrs_db, reverse=True)
    make = load_noise(params.noise, ctx.workspace)
    outputs = predict_in_noise(predictor, stream_audio(ctx, clips), snrs_db, make, ctx.params.seed)
    targets = predictor.description.targets
    truth = task.truth(targets, clips)
    here = None if groups is None else groups[chosen]
    resampling = (params.bootstrap_samples, params.confidence, generator)
    rows: list[list[float]] = []
    for snr_db, found in zip([np.nan, *snrs_db], [test.outputs[chosen], *outputs], strict=True):
        scores = task.score_clips(targets, truth, found)
        interval = make_intervals(task, targets, truth, found, scores, here, *resampling)(
            np.ones(len(clips), dtype=bool)
        )
        rows.append([snr_db, interval.n, interval.value, interval.low, interval.high])
    return pd.DataFrame(rows, columns=columns).astype({"n": int})


def trace_learning_curve(
    ctx: Context,
    features: FeatureSet,
    task: ModuleType,
    targets: dict[str, Any],
    splits: pd.DataFrame,
    test: Judged,
    groups: Groups | None,
) -> pd.DataFrame:
    """Return the primary metric on test clips of the models of shares and of the final one; without shares no rows.

    The columns are ``share``, ``train_clips`` (those with features), ``metric``, ``low``, ``high``. The last row, with
    the share ``all``, is the final model's.

    Parameters
    ----------
    targets
        Of the final model; the others have their own.
    splits
        The table of splits.
    test
        The test clips with the final model's outputs.
    groups
        Of the test clips, as in `bootstrap_interval`.

    Raises
    ------
    StepError
        When the model of a share was not judged on these test clips.
    """
    usable, points = splits[~splits["clip_id"].isin(list(features.quarantined))], []
    if shares := list_shares(splits):
        judged, outputs = read_outputs(ctx.require(PARTS, "train"), "share")
        own_targets = read_targets(ctx.path(PARTS), "share")
        for part in shares:
            own = judged[judged["name"] == part.name]
            places = pd.Series(own.index, index=own["clip_id"]).reindex(test.manifest["clip_id"])
            if places.isna().any():
                raise StepError(f"{PARTS} lacks test clips of share {part.name!r}. Run: audioml run train")
            made = stack([outputs[int(place)] for place in places])
            points.append(Point(part.name, _count_training(splits_of(usable, part)), made, own_targets[part.name]))
        points.append(Point("all", _count_training(usable), test.outputs, targets))
    params = ctx.params.evaluate
    resampling = (params.bootstrap_samples, params.confidence, ctx.params.seed)
    return judge_shares(task, test.manifest, points, *resampling, groups)


def _count_training(splits: pd.DataFrame) -> int:
    return int((splits["split"] == "train").sum())


def meet_strangers(ctx: Context, predictor: Predictor, test: Judged) -> Strangers | None:
    """Return how the model answers the recordings in `evaluate.unknown`; None where there are none.

    Raises
    ------
    ParamsError
        When the folder has no recordings, or the task's answers have no probability.
    """
    folder = ctx.params.evaluate.unknown
    if folder is None:
        return None
    files = list_recordings(ctx.path(folder), "evaluate.unknown")
    chosen = np.unique(np.linspace(0, len(files) - 1, MAX_RECORDINGS).astype(int))
    answers = [predictor.task.describe(predictor.description.targets, output) for output in test.outputs]
    if "probability" not in answers[0]:
        raise ParamsError(
            f"{FILE_NAME}: 'evaluate.unknown' needs answers with a probability, which the task "
            f"{ctx.params.task.name!r} does not give. Set it to null."
        )
    return judge_strangers(predictor, [files[i] for i in chosen], [answer["probability"] for answer in answers])


def price(ctx: Context, predictor: Predictor, test: Judged, run: dict[str, Any]) -> Cost:
    """Return what the model costs."""
    shape = window_shape(ctx, predictor, test)
    return measure_cost(ctx.path(PACKAGE) / "artifacts", run, shape, read_timed(ctx, test))


def window_shape(ctx: Context, predictor: Predictor, test: Judged) -> tuple[int, int]:
    """Return (bins, frames) of a window; where each has its own length, of those of the first test clip."""
    bins, frames = predictor.description.input_shape
    if frames is None:
        ((_, first),) = read_audio(ctx, test.manifest.iloc[:1])
        frames = predictor.extract(first).shape[2]
    return bins, frames


def read_timed(ctx: Context, test: Judged) -> list[bytes]:
    """Return the audio of the test clips that answers are timed on."""
    n = len(test.manifest)
    timed = np.unique(np.linspace(0, n - 1, ctx.params.evaluate.timed_clips).astype(int))
    return [data for _, data in stream_audio(ctx, test.manifest.iloc[timed])]


def explain(
    ctx: Context,
    predictor: Predictor,
    features: FeatureSet,
    test: Judged,
    predictions: Sequence[dict[str, Any]],
    wrong: NDArray[np.int64],
) -> tuple[list[Explanation], str]:
    """Return explanations of the worst mistakes and of a right clip of each label, or none and why.

    Of a clip with several windows it is the one in which the answer's raw output is largest.
    """
    wanted, (bins, _) = ctx.params.evaluate.explained_clips, features.shape
    if not wanted:
        return [], ""
    if test.outputs.ndim != 2 or bins < MIN_BINS:
        return [], "Answers are explained where a clip has one output a label and its features are a spectrogram."
    from audioml.training.network import is_fitted, load_network

    if is_fitted(ctx.params):
        return [], f"Networks are explained; the model {ctx.params.model.name} is fitted without gradient descent."
    network = load_network(ctx.params, ctx.path(CHECKPOINT), predictor.description.targets, features.shape)
    confidence = [float(prediction.get("probability", 0.0)) for prediction in predictions]
    explanations = []
    for i in choose_clips(test.manifest["label"].tolist(), wrong, confidence, wanted):
        row, prediction, target = test.manifest.iloc[i], predictions[i], int(test.outputs[i].argmax())
        windows = features.take(np.flatnonzero(features.clip_ids == row["clip_id"]))
        window = windows[predictor.run_features(windows)[:, target].argmax()]
        explanations.append(
            Explanation(
                path=row["path"],
                actual=str(row["label"]),
                predicted=show_labels(next(iter(prediction.values()))),
                confidence=prediction.get("probability"),
                picture=draw_attribution(window, attribute(network, window, target)),
            )
        )
    return explanations, ""


def read_audio(ctx: Context, rows: pd.DataFrame) -> list[tuple[str, bytes]]:
    """Return path and bytes of clips, in the order of `rows`."""
    data: dict[str, bytes] = {}
    for shard, clips in rows.groupby("shard"):
        data |= dict(read_clips(ctx.path(AUDIO) / str(shard), clips["row"].tolist()))
    return [(path, data[clip_id]) for path, clip_id in zip(rows["path"], rows["clip_id"], strict=True)]


def stream_audio(ctx: Context, rows: pd.DataFrame) -> Iterator[tuple[str, bytes]]:
    """Yield path and bytes of clips, some at a time, in the order of `rows`."""
    for start in range(0, len(rows), READ_CLIPS):
        yield from read_audio(ctx, rows.iloc[start : start + READ_CLIPS])
