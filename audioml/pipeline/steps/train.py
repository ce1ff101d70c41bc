"""Fit the model, export it to ONNX and package it for MLflow.

One item. A killed fit is taken up again at its last checkpoint, in the same MLflow run, as long as its inputs are
the same: the state's folder is named by their hash.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioml.pipeline.context import Context
from audioml.pipeline.step import Item
from audioml.store.code_version import code_version
from audioml.store.features import INDEX, open_features
from audioml.store.files import hash_file, hash_json, read_json, write_atomic, write_json
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits

FEATURES = "features"
CHECKPOINT, ONNX, PACKAGE, RUN = "models/checkpoint.ckpt", "models/model.onnx", "models/package", "models/run.json"
STATE_RUN, STATE_RESULT = "run.json", "result.json"
"""In the state's folder: the MLflow run, written before the first epoch; the result, written after the last."""
COLLECTED = "collected"
CHECKED_WINDOWS = 8
"""Windows of training clips on which ONNX and torch are compared."""


def plan(ctx: Context) -> list[Item]:
    """Return the one item, `fit`."""
    for path, step in ((MANIFEST, "ingest"), (SPLITS, "split"), (f"{FEATURES}/{INDEX}", "featurize")):
        ctx.require(path, step)
    return [Item("fit", f"{ctx.params.model.name} on {FEATURES}, at most {ctx.params.training.max_epochs} epochs")]


def work(ctx: Context, item: Item) -> dict[str, Any]:
    """Train to the end, or take up what a killed run left."""
    _let_threads_sleep()
    from audioml.training.devices import lease_until_exit
    from audioml.training.world import find_world

    training, world = ctx.params.training, find_world()
    world.check(training)
    world.end_with_starter()
    key = fit_key(ctx)
    state = _state(ctx, key)
    if world.first_decides(lambda: _is_finished(state)):
        if not world.is_first:
            sys.exit(0)
        return _summary(read_json(state / STATE_RESULT))
    if training.accelerator != "cpu":
        lease_until_exit(
            world.devices_of(training),
            group=world.device_group,
            share=training.share_devices,
            joins=world.local_rank > 0,
        )
    world.meet({"inputs, params or code": key, "the last checkpoint": _last_checkpoint(state)})
    world.connect(training.accelerator)
    return _train(ctx, key, state, first=world.is_first)


def _train(ctx: Context, key: str, state: Path, *, first: bool) -> dict[str, Any]:
    from audioml.registry.runs import training_run
    from audioml.training.fit import fit
    from audioml.training.tracker import NullTracker

    inputs = (
        ctx.params,
        # One process that reads all bytes is enough.
        open_features(ctx.path(FEATURES), verify=first),
        read_manifest(ctx.path(MANIFEST)),
        read_splits(ctx.path(SPLITS)),
        state,
    )
    if not first:
        # Lightning and torchrun start further processes with the same command; only the first one goes on after this.
        fit(*inputs, NullTracker())
        sys.exit(0)
    known = read_json(state / STATE_RUN)["run_id"] if (state / STATE_RUN).exists() else None
    with training_run(ctx, known) as tracker:
        write_json(state / STATE_RUN, {"run_id": tracker.run_id})
        result = fit(*inputs, tracker)
        best = dict(result.best)
        tracker.log_metrics({f"best_{k}": v for k, v in best.items() if k.startswith("val_")}, step=int(best["epoch"]))
        tracker.log_params({"best_epoch": int(best["epoch"])})
        summary = {
            "run_id": tracker.run_id,
            "key": key,
            "model": ctx.params.model.name,
            "n_parameters": result.n_parameters,
            "quarantined_clips": result.n_quarantined,
            "epochs": len(result.history),
            "best_epoch": int(best["epoch"]),
            "metrics": {name: value for name, value in best.items() if name.startswith(("train_", "val_"))},
            "history": result.history,
        }
    write_json(state / STATE_RESULT, {"run": summary, "targets": result.targets})
    return _summary(read_json(state / STATE_RESULT))


def collect(ctx: Context) -> dict[str, Any]:
    """Write `models/`: the best epoch's checkpoint, the ONNX file, the package and `run.json`."""
    import torch

    from audioml.errors import StepError
    from audioml.inference.description import Description
    from audioml.registry.package import save_package
    from audioml.training.checkpoints import BEST
    from audioml.training.export import export_onnx
    from audioml.training.network import load_network

    key = fit_key(ctx)
    state = _state(ctx, key)
    if not (state / STATE_RESULT).exists():
        raise StepError("There is no finished training of these inputs to collect. Run: audioml run train")
    result = read_json(state / STATE_RESULT)
    features = open_features(ctx.path(FEATURES))
    network = load_network(ctx.params, state / BEST, result["targets"], features.shape)
    examples = [torch.from_numpy(features.take(rows)) for rows in _checked_windows(features.frames)]
    error = export_onnx(network, examples, ctx.path(ONNX), any_frames=features.shape[1] is None)
    description = Description(
        name=ctx.params.name,
        clean=features.index["clean"],
        features={"name": features.index["feature"], "params": features.index["params"]},
        task=_describe_plugin(ctx, "task", "tasks"),
        model=_describe_plugin(ctx, "model", "models"),
        targets=result["targets"],
        input_shape=features.shape,
    )
    save_package(
        ctx.path(PACKAGE),
        onnx=ctx.path(ONNX),
        description=description.as_dict(),
        example_audio=_example_audio(ctx, list(features.quarantined)),
    )
    with write_atomic(ctx.path(CHECKPOINT)) as temporary:
        shutil.copyfile(state / BEST, temporary)
    write_json(ctx.path(RUN), {**result["run"], "onnx_max_error": error})
    write_json(state / COLLECTED, {"onnx_max_error": error})
    for other in state.parent.iterdir():
        if other != state:
            shutil.rmtree(other)
    return _summary(result)


def fit_key(ctx: Context) -> str:
    """Return the hash of all that decides what comes out of the fit: params, inputs and code."""
    params = ctx.params
    plugins = [f"models/{params.model.name}.py", f"tasks/{params.task.name}.py"]
    plugins += [f"augment/{section.name}.py" for section in params.augment]
    sections = params.model_dump(mode="json", include={"seed", "task", "model", "augment", "training"})
    inputs = {path: hash_file(ctx.path(path)) for path in (MANIFEST, SPLITS, f"{FEATURES}/{INDEX}")}
    version = code_version(["training/fit.py", *plugins], within=["training", "models", "tasks", "augment"])
    return hash_json({"params": sections, "inputs": inputs, "code": version})


def _let_threads_sleep() -> None:
    """Let OpenMP's threads sleep while they wait for each other; it reads this when torch is first imported.

    By default they spin, and where another process wants the core as well (Airflow, MLflow), they spin through
    their time slices: a training step on two busy cores took 2 s instead of 0.4 s.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _describe_plugin(ctx: Context, section: str, kind: str) -> dict[str, Any]:
    params = ctx.params.plugin_section(kind).model_dump(mode="json")
    return {"name": getattr(ctx.params, section).name, "params": params}


def _state(ctx: Context, key: str) -> Path:
    return ctx.state / "training" / key[:16]


def _is_finished(state: Path) -> bool:
    """Tell whether a training of these inputs is over and its result not collected yet."""
    if (state / COLLECTED).exists():
        # That training is over and its models were written: this is a new one.
        shutil.rmtree(state)
    return (state / STATE_RESULT).exists()


def _last_checkpoint(state: Path) -> str | None:
    from audioml.training.checkpoints import LAST

    return hash_file(state / LAST) if (state / LAST).exists() else None


def _summary(result: dict[str, Any]) -> dict[str, Any]:
    run: dict[str, Any] = result["run"]
    summary = {name: run[name] for name in ("run_id", "epochs", "best_epoch", "n_parameters")} | dict(run["metrics"])
    return summary | ({"quarantined_clips": run["quarantined_clips"]} if run["quarantined_clips"] else {})


def _checked_windows(frames: NDArray[np.int32]) -> list[NDArray[np.int64]]:
    """Return the rows of the windows to compare on: the first ones of the shortest length, and of the median one."""
    lengths = np.unique([frames.min(), np.sort(frames)[len(frames) // 2]])
    return [np.flatnonzero(frames == length)[:CHECKED_WINDOWS] for length in lengths]


def _example_audio(ctx: Context, quarantined: Sequence[str]) -> bytes:
    """Return the shortest training clip, as a small input example of the package."""
    from audioml.store.clips import FOLDER, read_clips

    manifest, splits = read_manifest(ctx.path(MANIFEST)), read_splits(ctx.path(SPLITS))
    train = manifest[manifest["clip_id"].isin(splits.loc[splits["split"] == "train", "clip_id"])]
    train = train[~train["clip_id"].isin(quarantined)]
    row = train.sort_values(["size_bytes", "path"]).iloc[0]
    ((_, data),) = read_clips(ctx.path(FOLDER) / row["shard"], [int(row["row"])])
    return data
