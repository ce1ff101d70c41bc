"""register: the trained and measured package becomes a version in the MLflow registry."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from audioml.pipeline.context import STATE_DIR, Context
from audioml.pipeline.step import Item
from audioml.registry.names import flatten_metrics
from audioml.registry.promotion import crown_first
from audioml.registry.tracking import tracking
from audioml.registry.training_sets import keep_training_set
from audioml.registry.versions import register_package, resolve
from audioml.store.files import read_json, write_json
from audioml.store.training_clips import TRAINING_CLIPS

PACKAGE, RUN, METRICS = "models/package", "models/run.json", "reports/metrics.json"
REGISTERED = "models/registered.json"
WORK = "register.json"


def plan(ctx: Context) -> list[Item]:
    """Return the one item: the package."""
    return [Item(id="version", label=f"a version of {ctx.model_name}")]


def work(ctx: Context, item: Item) -> dict[str, Any]:
    """Register the package and the clips behind it, once; the first version is champion if gates let it."""
    package = ctx.require(PACKAGE, made_by="train")
    clips = ctx.require(TRAINING_CLIPS, made_by="train")
    run_id: str = read_json(ctx.require(RUN, made_by="train"))["run_id"]
    metrics = flatten_metrics(read_json(ctx.require(METRICS, made_by="evaluate")))
    with tracking(ctx):
        registered = register_package(ctx, package, run_id, metrics, crown=False)
        keep_training_set(registered, clips)
        number = registered.version
    why_not = crown_first(ctx, number)
    with tracking(ctx):
        version = asdict(resolve(ctx, f"{ctx.model_name}@{number}"))
    write_json(ctx.state / WORK, {"version": version, "why_not": why_not})
    return _summarize(version, why_not)


def collect(ctx: Context) -> dict[str, Any]:
    """Write what was registered into the workspace; return it without the metrics, and why it is not champion."""
    found: dict[str, Any] = read_json(ctx.require(f"{STATE_DIR}/{WORK}", made_by="register"))
    registered = found["version"]
    write_json(ctx.path(REGISTERED), registered)
    return _summarize(registered, found["why_not"])


def _summarize(version: dict[str, Any], why_not: str) -> dict[str, Any]:
    summary = {name: version[name] for name in ("name", "version", "aliases")}
    return summary | ({"not_champion": why_not} if why_not else {})
