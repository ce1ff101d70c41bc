"""evaluate: measure the packaged model on held-out clips; metrics, plots, the report, and all of it in MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

import audioml
from audioml.errors import StepError
from audioml.evaluation.calibration import Calibration, judge_calibration
from audioml.evaluation.cost import Cost
from audioml.evaluation.explanation import Explanation
from audioml.evaluation.folds import CrossValidation, draw_folds, judge_folds
from audioml.evaluation.intervals import Grouping, Interval, group_clips, make_intervals
from audioml.evaluation.mistakes import rank_mistakes, show_mistake
from audioml.evaluation.outputs import check_audio_path
from audioml.evaluation.plots import (
    draw_learning_curve,
    draw_reliability,
    draw_robustness,
    draw_training_curves,
    to_svg,
)
from audioml.evaluation.report import Evaluation, render_report
from audioml.evaluation.slices import measure_slices
from audioml.evaluation.unknown import Strangers
from audioml.evaluation.variants import VariantFigures, describe_variants
from audioml.inference.predictor import Predictor
from audioml.params import FILE_NAME
from audioml.pipeline.context import Context
from audioml.pipeline.judging import (
    CHECKPOINT,
    PACKAGE,
    Judged,
    explain,
    judge_clips,
    measure_in_noise,
    meet_strangers,
    price,
    read_audio,
    trace_learning_curve,
)
from audioml.pipeline.step import Item
from audioml.pipeline.variant_figures import measure_variants
from audioml.store.clips import FOLDER as AUDIO
from audioml.store.features import FeatureSet, open_features
from audioml.store.files import read_json, write_folder_atomic, write_json
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits
from audioml.store.parts import PARTS, read_outputs, read_targets
from audioml.tasks._outputs import primary_of

FEATURES, RUN = "features", "models/run.json"
METRICS, PLOTS, REPORT = "reports/metrics.json", "reports/plots", "reports/evaluation"
CHECKED_CLIPS = 5
"""Test clips on which the path from audio bytes is compared with the stored features."""


def plan(ctx: Context) -> list[Item]:
    """Return the one item: the test set."""
    made_by = {MANIFEST: "ingest", SPLITS: "split", FEATURES: "featurize", PACKAGE: "train", RUN: "train"}
    if ctx.params.evaluate.explained_clips:
        made_by[CHECKPOINT] = "train"
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
    splits = read_splits(ctx.path(SPLITS))
    split_of_clip = manifest["clip_id"].map(splits.set_index("clip_id")["split"])
    predictor = Predictor.load(ctx.path(PACKAGE) / "artifacts", threads=0)
    features = open_features(ctx.path(FEATURES), verify=True)
    usable = ~manifest["clip_id"].isin(list(features.quarantined))
    test = judge_clips(features, predictor, manifest[usable & (split_of_clip == "test")])
    validation = judge_clips(features, predictor, manifest[usable & (split_of_clip == "validation")])
    if test is None:
        raise StepError(f"{SPLITS} has no clips to test on. Set split.test or split.test_share in {FILE_NAME}.")
    n_left_out = int((~usable & (split_of_clip == "test")).sum())
    checked = np.unique(np.linspace(0, len(test.manifest) - 1, CHECKED_CLIPS).astype(int))
    difference = check_audio_path(predictor, read_audio(ctx, test.manifest.iloc[checked]), test.outputs[checked])

    found = _find_out(ctx, predictor, features, run, manifest, splits, test)
    task, targets, params = predictor.task, predictor.description.targets, ctx.params.evaluate
    primary = primary_of(task, ctx.params.plugin_section("tasks"))
    metrics = {"test": describe_test(primary, found.headline, test.metrics)}
    if n_left_out:
        metrics["test"]["left_out"] = n_left_out
    if validation:
        metrics["validation"] = {primary: validation.metrics[primary], "n": len(validation.manifest)}
    metrics |= describe_findings(primary, found.calibration, found.noise, found.strangers, found.cost)
    if found.folds:
        metrics["folds"] = describe_folds(primary, found.folds)
    if found.variants:
        metrics["variants"] = describe_variants(primary, found.variants)
    if not found.learning_curve.empty:
        metrics["learning_curve"] = describe_learning_curve(primary, found.learning_curve)

    tables, own_figures = (
        task.tables(targets, test.truth, test.outputs),
        task.figures(targets, test.truth, test.outputs),
    )
    figures = _draw_findings(primary, run["history"], found)
    svg = {name: to_svg(figure, name) for name, figure in figures.items()}
    reported = {name: own_figures[name] for name in getattr(task, "REPORTED", ()) if name in own_figures}
    shown = found.wrong[: params.worst_mistakes]
    audio = [data for _, data in read_audio(ctx, test.manifest.iloc[shown])]
    evaluation = Evaluation(
        name=ctx.model_name,
        metric=primary,
        headline=found.headline,
        confidence=params.confidence,
        counts={str(name): int(count) for name, count in split_of_clip[usable].value_counts().items()},
        hours=float(manifest.loc[usable, "duration_s"].sum()) / 3600,
        metrics=test.metrics,
        validation=validation.metrics[primary] if validation else None,
        tables=tables,
        slices=found.slices,
        mistakes=[
            show_mistake(
                test.manifest.iloc[i], found.predictions[i], data, describe_truth(task, targets, test.truth[i])
            )
            for i, data in zip(shown, audio, strict=True)
        ],
        n_mistakes=len(found.wrong),
        curves=svg["training_curves"],
        card={
            **describe_model(ctx, predictor, run),
            **({"Left out": f"{n_left_out} test clips that gave no features"} if n_left_out else {}),
            "From audio bytes": f"outputs differ by {difference:.1g} at most on {len(checked)} clips",
        },
        params=ctx.path(FILE_NAME).read_text(encoding="utf-8"),
        figures={name: to_svg(figure, name) for name, figure in reported.items()},
        grouping=found.grouping,
        calibration=found.calibration,
        reliability=svg.get("reliability"),
        noise=found.noise,
        noise_name=params.noise,
        noise_curve=svg.get("noise"),
        strangers=found.strangers,
        cost=found.cost,
        variants=found.variants,
        max_loss=run.get("max_loss", 0.0),
        explanations=found.explanations,
        explained=found.explained,
        folds=found.folds,
        learning_curve=found.learning_curve,
        learning_plot=svg.get("learning_curve"),
    )
    with write_folder_atomic(ctx.path(REPORT)) as folder:
        (folder / "index.html").write_text(render_report(evaluation), encoding="utf-8")
    with write_folder_atomic(ctx.path(PLOTS)) as folder:
        for name, table in (tables | _tabulate_findings(run["history"], found)).items():
            table.to_csv(folder / f"{name}.csv", index=False)
    write_json(ctx.path(METRICS), metrics)
    logged = flatten_metrics(metrics) | describe_latency(found.cost, found.variants)
    figures |= own_figures | ({"folds": draw_folds(found.folds, primary)} if found.folds else {})
    log_evaluation(ctx, run["run_id"], logged, figures, ctx.path(REPORT))
    headline = found.headline
    return {primary: headline.value, "low": headline.low, "high": headline.high, "n": headline.n}


def collect(ctx: Context) -> dict[str, Any]:
    """Return the metrics on the test set, without those of each label."""
    metrics = read_json(ctx.require(METRICS, "evaluate"))
    return {name: value for name, value in metrics["test"].items() if not isinstance(value, dict)}


@dataclass(frozen=True, eq=False)
class _Findings:
    """What is found out of the test clips, beside the task's own metrics."""

    headline: Interval
    grouping: Grouping | None
    slices: pd.DataFrame
    noise: pd.DataFrame
    calibration: Calibration | None
    strangers: Strangers | None
    cost: Cost
    variants: list[VariantFigures]
    """Float32 first; none where it is the only one."""
    folds: CrossValidation | None
    learning_curve: pd.DataFrame
    """From `trace_learning_curve`."""
    predictions: list[dict[str, Any]]
    """What the task says of each clip."""
    wrong: NDArray[np.int64]
    """Positions of the clips that are not wholly right, the worst first."""
    explanations: list[Explanation]
    explained: str


def _find_out(
    ctx: Context,
    predictor: Predictor,
    features: FeatureSet,
    run: dict[str, Any],
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    test: Judged,
) -> _Findings:
    task, targets, params = predictor.task, predictor.description.targets, ctx.params.evaluate
    grouping = group_clips(test.manifest, ctx.params.split.group)
    groups = grouping.groups if grouping else None
    resampling = (params.bootstrap_samples, params.confidence, np.random.default_rng(ctx.params.seed))
    interval_of = make_intervals(task, targets, test.truth, test.outputs, test.scores, groups, *resampling)
    headline = interval_of(np.ones(len(test.manifest), dtype=bool))
    higher_is_better: bool = getattr(task, "HIGHER_IS_BETTER", True)
    slices = measure_slices(test.manifest, interval_of, params.max_slice_values, higher_is_better)
    calibration = None
    if hasattr(task, "calibration_loss"):
        calibration = judge_calibration(predictor, test.scores, test.outputs, test.uncalibrated)
    predictions = [task.describe(targets, output) for output in test.outputs]
    wrong = rank_mistakes(test.scores, predictions, higher_is_better)
    explanations, explained = explain(ctx, predictor, features, test, predictions, wrong)
    return _Findings(
        headline=headline,
        grouping=grouping,
        slices=slices,
        noise=measure_in_noise(ctx, predictor, test, groups),
        calibration=calibration,
        strangers=meet_strangers(ctx, predictor, test),
        cost=price(ctx, predictor, test, run),
        variants=measure_variants(ctx, features, test, run),
        folds=cross_validate(ctx, task, run["targets"], manifest),
        learning_curve=trace_learning_curve(ctx, features, task, targets, splits, test, groups),
        predictions=predictions,
        wrong=wrong,
        explanations=explanations,
        explained=explained,
    )


def _draw_findings(primary: str, history: list[dict[str, Any]], found: _Findings) -> dict[str, Figure]:
    """Return the figures that the report shows in sections of its own."""
    figures = {"training_curves": draw_training_curves(history, primary)}
    if found.calibration:
        figures["reliability"] = draw_reliability(found.calibration.reliability, found.calibration.before)
    if not found.noise.empty:
        figures["noise"] = draw_robustness(found.noise, primary)
    if not found.learning_curve.empty:
        figures["learning_curve"] = draw_learning_curve(found.learning_curve, primary)
    return figures


def _tabulate_findings(history: list[dict[str, Any]], found: _Findings) -> dict[str, pd.DataFrame]:
    """Return the tables for `dvc plots`, beside the task's own."""
    tables = {"history": pd.DataFrame(history), "slices": found.slices}
    if found.calibration:
        tables["reliability"] = found.calibration.reliability
    if not found.noise.empty:
        tables["noise"] = found.noise
    if found.folds:
        tables["folds"] = found.folds.table
    if not found.learning_curve.empty:
        tables["learning_curve"] = found.learning_curve
    return tables


def describe_findings(
    primary: str, calibration: Calibration | None, noise: pd.DataFrame, strangers: Strangers | None, cost: Cost
) -> dict[str, dict[str, Any]]:
    """Return the sections of metrics.json beside the splits: calibration, noise, unknown, model."""
    sections: dict[str, dict[str, Any]] = {}
    if calibration:
        sections["calibration"] = dict(calibration.metrics)
    if not noise.empty:
        in_noise = noise.dropna(subset="snr_db")
        by_ratio = {f"{snr:g}_db": value for snr, value in zip(in_noise["snr_db"], in_noise["metric"], strict=True)}
        sections["noise"] = {primary: by_ratio, "n": int(noise["n"].iloc[0])}
    if strangers:
        sections["unknown"] = {name: value for name, value in asdict(strangers).items() if value is not None}
    counts = {"parameters": cost.parameters, "multiply_adds": cost.multiply_adds, "bytes": cost.size_bytes}
    return {**sections, "model": counts}


def describe_latency(cost: Cost, variants: Sequence[VariantFigures] = ()) -> dict[str, float]:
    """Return what depends on the machine, and so is logged to MLflow but is not in metrics.json."""
    if not cost.timed_clips:
        return {}
    latency = {"latency_p50_ms": 1000 * cost.latency_p50_s, "latency_p95_ms": 1000 * cost.latency_p95_s}
    timed = {v.name: 1000 * v.latency_p50_s for v in variants if v.accepted}
    return latency | {f"latency_p50_ms_{name}": milliseconds for name, milliseconds in timed.items()}


def describe_truth(task: ModuleType, targets: dict[str, Any], truth: Any) -> Any:
    """Return what is right of a clip in the form of a prediction; None where its label in the manifest says it."""
    return task.describe_truth(targets, truth) if hasattr(task, "describe_truth") else None


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


def cross_validate(
    ctx: Context, task: ModuleType, targets: dict[str, Any], manifest: pd.DataFrame
) -> CrossValidation | None:
    """Judge what the models of the folds made of held-out clips; None where there are no folds."""
    path = ctx.path(PARTS)
    if not path.exists():
        return None
    held_out, outputs = read_outputs(path, "fold")
    if held_out.empty:
        return None
    clips = manifest.set_index("clip_id").loc[held_out["clip_id"]].reset_index()
    params, grouping = ctx.params.evaluate, group_clips(clips, ctx.params.split.group)
    resampling = (params.bootstrap_samples, params.confidence, np.random.default_rng(ctx.params.seed))
    folds, groups = held_out["name"].tolist(), grouping.groups if grouping else None
    return judge_folds(task, targets, read_targets(path, "fold"), clips, folds, outputs, *resampling, groups)


def describe_folds(primary: str, folds: CrossValidation) -> dict[str, Any]:
    """Return the metrics of the cross-validation: pooled, as `describe_test`, and each fold's primary one."""
    by_fold = {str(row["fold"]): float(row["metric"]) for _, row in folds.table.iterrows()}
    described = describe_test(primary, folds.pooled, folds.metrics)
    described |= {"calibration": folds.calibration} if folds.calibration else {}
    return {**described, "mean": folds.mean, "std": folds.std, f"{primary}_by_fold": by_fold}


def describe_learning_curve(primary: str, curve: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return training clips, metric and interval of each share, and of all training clips."""
    named = curve.set_index("share").rename(columns={"metric": primary})
    return {str(share): dict(row) for share, row in named.astype(object).iterrows()}


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
