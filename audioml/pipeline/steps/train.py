"""Fit the model, export it to ONNX and package it for MLflow; beside it fit and judge a model for each part.

The item `fit` is the model that is kept. Parts are the folds of `split.folds` and the shares of `split.train_shares`,
as the table of splits has them: the model of each is trained by splits of its own (`store/parts.py`), and only what it
makes of the clips that it is judged on is kept. A killed fit is taken up again at its last checkpoint, in the same
MLflow run, as long as its inputs are the same: the state's folder is named by their hash. A part that was fitted is
fitted again only when they change.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audioml.params import Params
from audioml.pipeline.context import Context
from audioml.pipeline.package_clips import iter_reference, list_training_clips, read_example, read_golden
from audioml.pipeline.packaging import describe, judge_held_out
from audioml.pipeline.step import Item
from audioml.pipeline.transfer_source import describe_source, look_up_source, read_source, source_path
from audioml.pipeline.variants import choose_variant, describe_variants, make_variants, summarize_variants
from audioml.store.code_version import code_version
from audioml.store.features import INDEX, open_features
from audioml.store.files import hash_file, hash_json, read_json, write_json
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits
from audioml.store.parts import PARTS, Part, join_outputs, list_parts, splits_of, write_outputs
from audioml.store.training_clips import INIT_FROM_TAG, TRAINING_CLIPS, write_training_clips

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from audioml.inference.description import Description
    from audioml.training.network import Network

FIT = "fit"
"""The item of the model that is kept."""
FEATURES = "features"
CHECKPOINT, ONNX, PACKAGE, RUN = "models/checkpoint.ckpt", "models/model.onnx", "models/package", "models/run.json"
STATE_RUN, STATE_RESULT, STATE_OUTPUTS = "run.json", "result.json", "outputs.parquet"
"""In the state's folder: the MLflow run, written before the first epoch; the result, written after the last; of a part
what its model makes of the clips that it is judged on."""
COLLECTED = "collected"
JUDGING = ("pipeline/packaging.py", "evaluation/outputs.py")
"""Code by which a part's model is judged, beside that of inference."""
COUNTED = {"fold": ("test", "held out"), "share": ("train", "to train on")}
"""The split whose clips say how large a part is, and what people read of them."""
CHECKED_WINDOWS = 8
"""Windows of training clips on which ONNX and torch are compared."""


def plan(ctx: Context) -> list[Item]:
    """Return the item `fit`, and one for each part; look up what they all start from, once."""
    from audioml.training.world import find_world

    for path, step in ((MANIFEST, "ingest"), (SPLITS, "split"), (f"{FEATURES}/{INDEX}", "featurize")):
        ctx.require(path, step)
    ctx.params.check_export()
    if find_world().is_first:
        look_up_source(ctx)
    label = f"{ctx.params.model.name} on {FEATURES}, at most {ctx.params.training.max_epochs} epochs"
    splits = read_splits(ctx.path(SPLITS))
    items = [Item(FIT, label)]
    for part in list_parts(splits):
        split, what = COUNTED[part.kind]
        n = int((splits_of(splits, part)["split"] == split).sum())
        items.append(Item(part.item, f"{part}: {n} clips {what}", vars(part), n))
    return items


def work(ctx: Context, item: Item) -> dict[str, Any]:
    """Train to the end, or take up what a killed run left."""
    let_threads_sleep()
    from audioml.training.devices import lease_until_exit
    from audioml.training.network import is_fitted
    from audioml.training.world import find_world

    training, world = ctx.params.training, find_world()
    world.check(training)
    world.end_with_starter()
    part = Part(**item.payload) if item.payload else None
    finished = world.first_decides(lambda: _is_finished(ctx, _state(ctx, fit_key(ctx, part))))
    key = fit_key(ctx, part)
    state = _state(ctx, key)
    if finished:
        if not world.is_first:
            sys.exit(0)
        return _summary(read_json(state / STATE_RESULT))
    if training.accelerator != "cpu" and not is_fitted(ctx.params):
        lease_until_exit(
            world.devices_of(training),
            group=world.device_group,
            share=training.share_devices,
            joins=world.local_rank > 0,
        )
    world.meet({"inputs, params or code": key, "the last checkpoint": _last_checkpoint(state)})
    world.connect(training.accelerator)
    return _train(ctx, key, state, part, first=world.is_first)


def _train(ctx: Context, key: str, state: Path, part: Part | None, *, first: bool) -> dict[str, Any]:
    from audioml.registry.runs import training_run
    from audioml.training.fit import fit
    from audioml.training.tracker import NullTracker

    ctx = replace(ctx, params=params_of(ctx.params, part))
    # One process that reads all bytes is enough.
    features = open_features(ctx.path(FEATURES), verify=first)
    params = ctx.params.located(ctx.workspace)
    inputs = (params, features, read_manifest(ctx.path(MANIFEST)), _read_splits(ctx, part), state)
    source = source_path(ctx)
    if not first:
        # Lightning and torchrun start further processes with the same command; only the first one goes on after this.
        fit(*inputs, NullTracker(), source)
        sys.exit(0)
    known = read_json(state / STATE_RUN)["run_id"] if (state / STATE_RUN).exists() else None
    with training_run(ctx, known, *([str(part)] if part else [])) as tracker:
        write_json(state / STATE_RUN, {"run_id": tracker.run_id})
        if source is not None:
            tracker.set_tags({INIT_FROM_TAG: describe_source(ctx)["model"]})
        result = fit(*inputs, tracker, source)
        best = dict(result.best)
        tracker.log_metrics({f"best_{k}": v for k, v in best.items() if k.startswith("val_")}, step=int(best["epoch"]))
        tracker.log_params({"best_epoch": int(best["epoch"])})
        summary: dict[str, Any] = {
            "run_id": tracker.run_id,
            "key": key,
            "model": ctx.params.model.name,
            "n_parameters": result.n_parameters,
            "n_trained": result.n_trained,
            "trained_share": round(result.n_trained / result.n_parameters, 4),
            "quarantined_clips": result.n_quarantined,
            "epochs": len(result.history),
            "best_epoch": int(best["epoch"]),
            "metrics": {name: value for name, value in best.items() if name.startswith(("train_", "val_"))},
            "history": result.history,
        }
        summary |= {"pretraining": result.pretraining} if result.pretraining else {}
        summary |= {"init_from": describe_source(ctx)} if source is not None else {}
        if part:
            judged = judge_held_out(ctx, features, *inputs[2:4], result)
            tracker.log_metrics({f"{part.kind}_{judged.primary}": judged.value}, step=int(best["epoch"]))
            summary["metrics"] |= {f"{part.kind}_{judged.primary}": judged.value}
            write_outputs(state / STATE_OUTPUTS, part, judged.clip_ids, judged.outputs, judged.targets)
    write_json(state / STATE_RESULT, {"run": summary, "targets": result.targets})
    if part:
        _forget_checkpoints(state)
    return _summary(read_json(state / STATE_RESULT))


def collect(ctx: Context) -> dict[str, Any]:
    """Write `models/`: the best epoch's weights, ONNX file, package, its clips, the parts' outputs and `run.json`."""
    import torch

    from audioml.errors import StepError
    from audioml.registry.package import save_package
    from audioml.training.checkpoints import BEST
    from audioml.training.export import export_onnx
    from audioml.training.network import is_fitted, load_network
    from audioml.training.transfer import describe_network, save_weights

    key = fit_key(ctx)
    state = _state(ctx, key)
    if not (state / STATE_RESULT).exists():
        raise StepError("There is no finished training of these inputs to collect. Run: audioml run train")
    result = read_json(state / STATE_RESULT)
    described, states = _collect_parts(ctx, result["run"]["run_id"], result["targets"])
    features = open_features(ctx.path(FEATURES))
    network = load_network(ctx.params, state / BEST, result["targets"], features.shape)
    examples = [torch.from_numpy(features.take(rows)) for rows in _checked_windows(features.frames)]
    error = export_onnx(network, examples, ctx.path(ONNX), any_frames=features.shape[1] is None)
    description = describe(ctx, features, result["targets"])
    export = ctx.params.export
    variants = make_variants(ctx, features, network, examples, description, state)
    served = choose_variant(variants, export)
    save_weights(network, describe_network(ctx.params, result["targets"]), ctx.path(CHECKPOINT))
    quarantined = list(features.quarantined)
    example, golden = read_example(ctx, quarantined), read_golden(ctx, quarantined)
    save_package(
        ctx.path(PACKAGE),
        onnx=served.path,
        variants={variant.name: variant.path for variant in variants if variant.accepted and variant is not served},
        stream=_export_stream(network, examples, served.description, state),
        description=served.description.as_dict(),
        example_audio=example[1],
        golden=golden,
        reference=iter_reference(ctx, list(features.quarantined)),
        checkpoint=None if is_fitted(ctx.params) else ctx.path(CHECKPOINT),
    )
    clips = list_training_clips(ctx, features, {example[0], *dict(golden)})
    write_training_clips(ctx.path(TRAINING_CLIPS), clips)
    run = {**result["run"], "targets": result["targets"], **described, "onnx_max_error": error}
    write_json(ctx.path(RUN), run | describe_variants(variants, served, export.max_loss))
    write_json(state / COLLECTED, {"onnx_max_error": error, "export": export.model_dump(mode="json")})
    kept = {state, *states}
    for other in state.parent.iterdir():
        if other not in kept:
            shutil.rmtree(other)
    summary = _summary(result) | {kind: len(runs) for kind, runs in described.items()}
    return summary | summarize_variants(variants, served, export.max_loss)


def _export_stream(network: Network, examples: list[Tensor], description: Description, state: Path) -> Path | None:
    """Write the network for streams into the training's state and return its path; None where it cannot answer any."""
    from audioml.inference.description import STREAM
    from audioml.inference.streaming import why_no_stream
    from audioml.training.stream_export import export_stream

    if description.stream_block is None or why_no_stream(description):
        return None
    export_stream(network, examples, state / STREAM, description.stream_block)
    return state / STREAM


def _collect_parts(
    ctx: Context, run_id: str, targets: dict[str, Any]
) -> tuple[dict[str, list[dict[str, Any]]], list[Path]]:
    """Write what the models of all parts make of their clips as one table, and put their runs below the model's.

    Return what `run.json` says of them, ``folds`` and ``shares`` where there are some, and the folders of their states.

    Raises
    ------
    StepError
        When a part is not trained yet, or its model has learned other labels than the final one.
    """
    from audioml.errors import StepError
    from audioml.registry.runs import nest_runs

    described: dict[str, list[dict[str, Any]]] = {}
    states: list[Path] = []
    for part in list_parts(read_splits(ctx.path(SPLITS))):
        states.append(_state(ctx, fit_key(ctx, part)))
        if not (states[-1] / STATE_RESULT).exists():
            raise StepError(f"The model of {part.kind} {part.name!r} is not trained. Run: audioml run train")
        run, learned = read_json(states[-1] / STATE_RESULT).values()
        if learned.get("labels") != targets.get("labels"):
            raise StepError(
                f"The model of {part.kind} {part.name!r} knows other labels than the final one, as clips without "
                "features are left out. See the quarantine in features/index.json."
            )
        own = {name: run[name] for name in ("run_id", "epochs", "best_epoch", "metrics")}
        described.setdefault(f"{part.kind}s", []).append({"name": part.name, **own})
    join_outputs(ctx.path(PARTS), [state / STATE_OUTPUTS for state in states])
    if states:
        nest_runs(ctx, run_id, [run["run_id"] for runs in described.values() for run in runs])
    return described, states


def fit_key(ctx: Context, part: Part | None = None) -> str:
    """Return the hash of all that decides what comes out of the fit, or of that of a part.

    That is params, inputs, weights to start from, code.
    """
    params = params_of(ctx.params, part)
    plugins = [f"models/{params.model.name}.py", f"tasks/{params.task.name}.py"]
    plugins += [f"augment/{section.name}.py" for section in params.augment]
    sections = params.model_dump(mode="json", include={"seed", "task", "model", "augment", "training"})
    inputs = {path: hash_file(ctx.path(path)) for path in (MANIFEST, SPLITS, f"{FEATURES}/{INDEX}")}
    if part:
        inputs[SPLITS] = hash_json(_read_splits(ctx, part).to_numpy().tolist())
    within = ["training", "models", "tasks", "augment", "labels.py"]
    if part:
        # What is kept of a part is what its model makes of clips, as in serving.
        plugins, within = [*plugins, *JUDGING], [*within, "inference", *JUDGING]
    version = code_version(["training/fit.py", *plugins], within)
    source = read_source(ctx)
    return hash_json({"params": sections, "inputs": inputs, "code": version, "source": source and source["sha256"]})


def params_of(params: Params, part: Part | None) -> Params:
    """Return the params by which the model of a part is trained: that of a share for as many steps as the final one."""
    if part is None or part.kind != "share":
        return params
    training, longer = params.training, 1 / float(part.name)
    update = {name: math.ceil(getattr(training, name) * longer) for name in ("max_epochs", "patience")}
    update |= {"warmup_epochs": training.warmup_epochs * longer}
    return params.model_copy(update={"training": training.model_copy(update=update)})


def _read_splits(ctx: Context, part: Part | None) -> pd.DataFrame:
    """Return the splits by which the model, or that of a part, is trained."""
    splits = read_splits(ctx.path(SPLITS))
    return splits_of(splits, part) if part else splits


def _forget_checkpoints(state: Path) -> None:
    """Remove the weights of a part's model, pretrained ones too: its outputs are all that is asked of it."""
    for path in state.rglob("*.ckpt"):
        path.unlink()


def let_threads_sleep() -> None:
    """Let OpenMP's threads sleep while they wait for each other; it reads this when torch is first imported.

    By default they spin, and where another process wants the core as well (Airflow, MLflow), they spin through
    their time slices: a training step on two busy cores took 2 s instead of 0.4 s.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _state(ctx: Context, key: str) -> Path:
    return ctx.state / "training" / key[:16]


def _is_finished(ctx: Context, state: Path) -> bool:
    """Tell whether a training of these inputs is over, and its result not collected yet or to be exported otherwise."""
    collected = state / COLLECTED
    if collected.exists() and read_json(collected).get("export") == ctx.params.export.model_dump(mode="json"):
        # That training is over and its models were written: this is a new one.
        shutil.rmtree(state)
    return (state / STATE_RESULT).exists()


def _last_checkpoint(state: Path) -> str | None:
    from audioml.training.checkpoints import LAST

    return hash_file(state / LAST) if (state / LAST).exists() else None


def _summary(result: dict[str, Any]) -> dict[str, Any]:
    run: dict[str, Any] = result["run"]
    names = ["run_id", "epochs", "best_epoch", "n_parameters"]
    names += ["n_trained", "trained_share"] if run["n_trained"] != run["n_parameters"] else []
    summary = {name: run[name] for name in names} | dict(run["metrics"])
    return summary | ({"quarantined_clips": run["quarantined_clips"]} if run["quarantined_clips"] else {})


def _checked_windows(frames: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """Return the rows of the windows to compare on: the first ones of the shortest length, and of the median one."""
    lengths = np.unique([frames.min(), np.sort(frames)[len(frames) // 2]])
    return [np.flatnonzero(frames == length)[:CHECKED_WINDOWS] for length in lengths]
