"""From a fitted network to a model that answers: its description, what validation clips teach it, held-out outputs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from audioml.errors import StepError
from audioml.evaluation.calibration import MAX_CLIPS, fit_temperature, merger
from audioml.evaluation.outputs import predict_stored, run_stored
from audioml.inference.description import Description
from audioml.inference.predictor import Predictor, open_session
from audioml.pipeline.context import Context
from audioml.plugins import stream_block
from audioml.store.features import FeatureSet
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits
from audioml.tasks._outputs import divide, primary_of, sum_scores

if TYPE_CHECKING:
    from audioml.training.fit import FitResult

ONNX = "models/model.onnx"


def describe(ctx: Context, features: FeatureSet, targets: dict[str, Any]) -> Description:
    """Return what makes a network a model: how audio becomes features, and outputs become predictions."""
    return Description(
        name=ctx.params.name,
        clean=features.index["clean"],
        features={"name": features.index["feature"], "params": features.index["params"]},
        task=_describe_plugin(ctx, "task", "tasks"),
        model=_describe_plugin(ctx, "model", "models"),
        targets=targets,
        input_shape=features.shape,
        stream_block=stream_block(ctx.params.model.name, ctx.params.plugin_section("models")),
    )


def tune_description(ctx: Context, features: FeatureSet, description: Description, onnx: Path) -> Description:
    """Return the description with what validation clips teach after the fit, by an exported network.

    These are the temperature, where the task is calibrated, and what its `tune_outputs` adds to the targets, such as
    a threshold. Both belong to the package, so that what is served is what was measured. Without validation clips
    it stays as it is.
    """
    predictor = Predictor.of(description, open_session(onnx, threads=0))
    manifest, splits = read_manifest(ctx.path(MANIFEST)), read_splits(ctx.path(SPLITS))
    return _tune(ctx, features, predictor, _validation_clips(features, manifest, splits))


def validate(ctx: Context, features: FeatureSet, description: Description, onnx: Path) -> float:
    """Return the task's primary metric of an exported network on the validation clips that it was tuned on."""
    predictor = Predictor.of(description, open_session(onnx, threads=0))
    manifest, splits = read_manifest(ctx.path(MANIFEST)), read_splits(ctx.path(SPLITS))
    clips = _validation_clips(features, manifest, splits)
    outputs = predict_stored(predictor, features, clips["clip_id"].tolist())
    truth = predictor.task.truth(description.targets, clips)
    return divide(*sum_scores(predictor.task, description.targets, truth, outputs))


def _tune(ctx: Context, features: FeatureSet, predictor: Predictor, clips: pd.DataFrame) -> Description:
    """Return the description of a predictor with what these clips teach."""
    params, task, description = ctx.params.plugin_section("tasks"), predictor.task, predictor.description
    if clips.empty or not (_calibrates(ctx) or hasattr(task, "tune_outputs")):
        return description
    truth = task.truth(description.targets, clips)
    stored = run_stored(predictor, features, clips["clip_id"].tolist())
    temperature = fit_temperature(predictor, *stored[:2], truth) if _calibrates(ctx) else 1.0
    targets = description.targets
    if hasattr(task, "tune_outputs"):
        targets = task.tune_outputs(params, targets, truth, merger(predictor, *stored)(temperature))
    return replace(description, temperature=temperature, targets=targets)


def _calibrates(ctx: Context) -> bool:
    return bool(getattr(ctx.params.plugin_section("tasks"), "calibrate", False))


def _validation_clips(features: FeatureSet, manifest: pd.DataFrame, splits: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of validation clips that have features; of very many, some."""
    chosen = set(splits.loc[splits["split"] == "validation", "clip_id"]) - set(features.quarantined)
    clips = manifest[manifest["clip_id"].isin(chosen)].reset_index(drop=True)
    return clips.iloc[np.unique(np.linspace(0, len(clips) - 1, MAX_CLIPS).astype(int))] if len(clips) else clips


@dataclass(frozen=True, eq=False)
class HeldOut:
    """What a model makes of clips that it was not trained on."""

    clip_ids: list[str]
    outputs: NDArray[Any]
    """``(clips, ...)``."""
    primary: str
    """Name of the task's metric."""
    value: float
    """That metric."""
    targets: dict[str, Any]
    """The model's, with what its validation clips taught, such as a threshold."""


def judge_held_out(
    ctx: Context, features: FeatureSet, manifest: pd.DataFrame, splits: pd.DataFrame, result: FitResult
) -> HeldOut:
    """Return what the best epoch's model makes of the clips of the split ``test``, merged as in serving.

    The clips of ``validation`` teach what they teach the final model: a temperature, thresholds, how to decode.

    Raises
    ------
    StepError
        When none of them has features.
    """
    from audioml.training.network import load_network
    from audioml.training.torch_session import TorchSession

    held_out = splits.loc[splits["split"] == "test", "clip_id"]
    clips = manifest[manifest["clip_id"].isin(held_out) & ~manifest["clip_id"].isin(list(features.quarantined))]
    if clips.empty:
        raise StepError("None of the clips that were held out has features. See features/index.json for the reasons.")
    network = load_network(ctx.params, result.checkpoint, result.targets, features.shape)
    predictor = Predictor.of(describe(ctx, features, result.targets), TorchSession(network))
    task = predictor.task
    tuned = _tune(ctx, features, predictor, _validation_clips(features, manifest, splits))
    targets, predictor = tuned.targets, replace(predictor, description=tuned)
    outputs = predict_stored(predictor, features, clips["clip_id"].tolist())
    value = divide(*sum_scores(task, targets, task.truth(targets, clips), outputs))
    primary = primary_of(task, ctx.params.plugin_section("tasks"))
    return HeldOut(clips["clip_id"].tolist(), outputs, primary, value, targets)


def _describe_plugin(ctx: Context, section: str, kind: str) -> dict[str, Any]:
    params = ctx.params.plugin_section(kind).model_dump(mode="json")
    return {"name": getattr(ctx.params, section).name, "params": params}
