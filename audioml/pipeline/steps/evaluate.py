"""evaluate: measure the packaged model on held-out clips; metrics, plots, the report, and all of it in MLflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import audioml
from audioml.errors import StepError
from audioml.evaluation.intervals import Interval, bootstrap_interval
from audioml.evaluation.mistakes import rank_mistakes, show_mistake
from audioml.evaluation.outputs import check_audio_path, predict_stored
from audioml.evaluation.plots import draw_training_curves, to_svg
from audioml.evaluation.report import Evaluation, render_report
from audioml.evaluation.slices import measure_slices
from audioml.inference.predictor import Predictor
from audioml.params import FILE_NAME
from audioml.pipeline.context import Context
from audioml.pipeline.step import Item
from audioml.store.clips import FOLDER as AUDIO
from audioml.store.clips import read_clips
from audioml.store.features import FeatureSet, open_features
from audioml.store.files import read_json, write_folder_atomic, write_json
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits

FEATURES, PACKAGE, RUN = "features", "models/package", "models/run.json"
METRICS, PLOTS, REPORT = "reports/metrics.json", "reports/plots", "reports/evaluation"
CHECKED_CLIPS = 5
"""Test clips on which the path from audio bytes is compared with the stored features."""


def plan(ctx: Context) -> list[Item]:
    """Return the one item: the test set."""
    made_by = {MANIFEST: "ingest", SPLITS: "split", FEATURES: "featurize", PACKAGE: "train", RUN: "train"}
    for path, step in made_by.items():
        ctx.require(path, step)
    return [Item("test", "all test clips")]


def work(ctx: Context, item: Item) -> dict[str, Any]:
    """Measure the model, write the metrics, the plots and the report, and log them to the model's run.

    Raises
    ------
    StepError
        When there are no test clips, or the path from audio bytes gives other outputs than stored features.
    """
    from audioml.registry.names import flatten_metrics
    from audioml.registry.runs import log_evaluation

    run, manifest = read_json(ctx.path(RUN)), read_manifest(ctx.path(MANIFEST))
    split_of_clip = manifest["clip_id"].map(read_splits(ctx.path(SPLITS)).set_index("clip_id")["split"])
    predictor = Predictor.load(ctx.path(PACKAGE) / "artifacts", threads=0)
    features = open_features(ctx.path(FEATURES), verify=True)
    usable = ~manifest["clip_id"].isin(list(features.quarantined))
    test = judge_clips(features, predictor, manifest[usable & (split_of_clip == "test")])
    validation = judge_clips(features, predictor, manifest[usable & (split_of_clip == "validation")])
    if test is None:
        raise StepError(f"{SPLITS} has no clips to test on. Set split.test or split.test_share in {FILE_NAME}.")
    n_left_out = int((~usable & (split_of_clip == "test")).sum())
    checked = np.unique(np.linspace(0, len(test.manifest) - 1, CHECKED_CLIPS).astype(int))
    difference = check_audio_path(predictor, _read_audio(ctx, test.manifest.iloc[checked]), test.outputs[checked])

    task, targets, params = predictor.task, predictor.description.targets, ctx.params.evaluate
    generator = np.random.default_rng(ctx.params.seed)
    resampling = (params.bootstrap_samples, params.confidence, generator)
    headline = bootstrap_interval(test.scores, *resampling)
    higher_is_better: bool = getattr(task, "HIGHER_IS_BETTER", True)
    slices = measure_slices(test.manifest, test.scores, params.max_slice_values, *resampling, higher_is_better)
    metrics = {"test": describe_test(task.PRIMARY, headline, test.metrics)}
    if n_left_out:
        metrics["test"]["left_out"] = n_left_out
    if validation:
        metrics["validation"] = {task.PRIMARY: validation.metrics[task.PRIMARY], "n": len(validation.manifest)}

    tables = task.tables(targets, test.truth, test.outputs)
    curves = draw_training_curves(run["history"])
    predictions = [task.describe(targets, output) for output in test.outputs]
    wrong = rank_mistakes(test.scores, predictions, higher_is_better)
    shown = wrong[: params.worst_mistakes]
    audio = [data for _, data in _read_audio(ctx, test.manifest.iloc[shown])]
    evaluation = Evaluation(
        name=ctx.model_name,
        metric=task.PRIMARY,
        headline=headline,
        confidence=params.confidence,
        counts={str(name): int(count) for name, count in split_of_clip[usable].value_counts().items()},
        hours=float(manifest.loc[usable, "duration_s"].sum()) / 3600,
        metrics=test.metrics,
        validation=validation.metrics[task.PRIMARY] if validation else None,
        tables=tables,
        slices=slices,
        mistakes=[
            show_mistake(test.manifest.iloc[i], predictions[i], data) for i, data in zip(shown, audio, strict=True)
        ],
        n_mistakes=len(wrong),
        curves=to_svg(curves, "training-curves"),
        card={
            **describe_model(ctx, predictor, run),
            **({"Left out": f"{n_left_out} test clips that gave no features"} if n_left_out else {}),
            "From audio bytes": f"outputs differ by {difference:.1g} at most on {len(checked)} clips",
        },
        params=ctx.path(FILE_NAME).read_text(encoding="utf-8"),
    )
    with write_folder_atomic(ctx.path(REPORT)) as folder:
        (folder / "index.html").write_text(render_report(evaluation), encoding="utf-8")
    with write_folder_atomic(ctx.path(PLOTS)) as folder:
        for name, table in {**tables, "history": pd.DataFrame(run["history"]), "slices": slices}.items():
            table.to_csv(folder / f"{name}.csv", index=False)
    write_json(ctx.path(METRICS), metrics)
    figures = {**task.figures(targets, test.truth, test.outputs), "training_curves": curves}
    log_evaluation(ctx, run["run_id"], flatten_metrics(metrics), figures, ctx.path(REPORT))
    return {task.PRIMARY: headline.value, "low": headline.low, "high": headline.high, "n": headline.n}


def collect(ctx: Context) -> dict[str, Any]:
    """Return the metrics on the test set, without those of each label."""
    metrics = read_json(ctx.require(METRICS, "evaluate"))
    return {name: value for name, value in metrics["test"].items() if not isinstance(value, dict)}


@dataclass(frozen=True, eq=False)
class Judged:
    """Clips of one split with what the model made of them, in the same order throughout."""

    manifest: pd.DataFrame
    truth: Any
    """What the task compares with."""
    outputs: NDArray[np.float32]
    """``(clips, ...)``."""
    scores: NDArray[np.float64]
    """Numerator and denominator of each clip's primary metric, ``(clips, 2)``."""
    metrics: dict[str, float]


def judge_clips(features: FeatureSet, predictor: Predictor, manifest: pd.DataFrame) -> Judged | None:
    """Run the model on the stored features of clips and compare with the truth; None without clips."""
    if manifest.empty:
        return None
    manifest = manifest.reset_index(drop=True)
    task, targets = predictor.task, predictor.description.targets
    outputs = predict_stored(predictor, features, manifest["clip_id"].tolist())
    truth = task.truth(targets, manifest)
    scores = task.score_clips(targets, truth, outputs)
    return Judged(manifest, truth, outputs, scores, task.measure(targets, truth, outputs))


def describe_test(primary: str, headline: Interval, measured: dict[str, float]) -> dict[str, Any]:
    """Return the metrics of the test set; ``f1/<label>`` becomes ``{"f1": {label: ...}}``."""
    described: dict[str, Any] = {
        primary: headline.value,
        "low": headline.low,
        "high": headline.high,
        "n": headline.n,
    }
    for name, value in measured.items():
        metric, _, label = name.partition("/")
        if label:
            described.setdefault(metric, {})[label] = value
        else:
            described[metric] = value
    return described


def describe_model(ctx: Context, predictor: Predictor, run: dict[str, Any]) -> dict[str, str]:
    """Return the model card: what the model is, and what it was made from."""
    from audioml.registry.lineage import source_tags

    model, tags = predictor.description, source_tags(ctx)
    bins, frames = model.input_shape
    card = {
        "Model": f"{model.name}: {model.model['name']}, {run['n_parameters']:,} parameters",
        "Task": model.task["name"],
        "Input": f"{model.features['name']}, {bins} bins × {frames or 'any'} frames at "
        f"{model.features['params']['sample_rate']} Hz",
        "Training": f"{run['epochs']} epochs, the best is {run['best_epoch']}; seed {ctx.params.seed}",
        "MLflow run": run["run_id"],
        "audioml": audioml.__version__,
    }
    if commit := tags.get("mlflow.source.git.commit"):
        dirty = ", with changes that are not committed" if tags.get("mlflow.source.git.dirty") == "true" else ""
        card["Git commit"] = commit + dirty
    for path in (MANIFEST, AUDIO, SPLITS, FEATURES, PACKAGE):
        if digest := ctx.lock_digest(path):
            card[f"DVC digest of {path}"] = digest
    return card


def _read_audio(ctx: Context, rows: pd.DataFrame) -> list[tuple[str, bytes]]:
    """Return path and bytes of clips, in the order of `rows`."""
    data: dict[str, bytes] = {}
    for shard, clips in rows.groupby("shard"):
        data |= dict(read_clips(ctx.path(AUDIO) / str(shard), clips["row"].tolist()))
    return [(path, data[clip_id]) for path, clip_id in zip(rows["path"], rows["clip_id"], strict=True)]
