"""register: the trained and measured package becomes a version in the MLflow registry."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from audioml.pipeline.context import STATE_DIR, Context
from audioml.pipeline.step import Item
from audioml.registry.names import flatten_metrics
from audioml.registry.tracking import tracking
from audioml.registry.training_sets import keep_training_set
from audioml.registry.versions import register_package
from audioml.store.files import read_json, write_json
from audioml.store.training_clips import TRAINING_CLIPS

PACKAGE, RUN, METRICS = "models/package", "models/run.json", "reports/metrics.json"
REGISTERED = "models/registered.json"
WORK = "register.json"


def plan(ctx: Context) -> list[Item]:
    """Return the one item: the package."""
    return [Item(id="version", label=f"a version of {ctx.model_name}")]


def work(ctx: Context, item: Item) -> dict[str, Any]:
    """Register the package, with the clips behind it. One that is registered already keeps its version."""
    package = ctx.require(PACKAGE, made_by="train")
    clips = ctx.require(TRAINING_CLIPS, made_by="train")
    run_id: str = read_json(ctx.require(RUN, made_by="train"))["run_id"]
    metrics = flatten_metrics(read_json(ctx.require(METRICS, made_by="evaluate")))
    with tracking(ctx):
        registered = register_package(ctx, package, run_id, metrics)
        keep_training_set(registered, clips)
    version = asdict(registered)
    write_json(ctx.state / WORK, version)
    return {"name": version["name"], "version": version["version"], "aliases": version["aliases"]}


def collect(ctx: Context) -> dict[str, Any]:
    """Write what was registered into the workspace; return it without the metrics."""
    registered: dict[str, Any] = read_json(ctx.require(f"{STATE_DIR}/{WORK}", made_by="register"))
    write_json(ctx.path(REGISTERED), registered)
    return {name: registered[name] for name in ("name", "version", "aliases")}
