"""What the workspace holds, in a few counts, hashes and links: for people, and for Airflow's asset events."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from audioml.errors import StepError, did_you_mean
from audioml.pipeline.context import Context
from audioml.store.files import read_json, write_json

HASHED = {
    "dataset": ("data/audio", "data/manifest.parquet"),
    "features": ("features", "data/splits.parquet"),
    "model": ("models/package", "models/registered.json"),
}
"""Outputs whose hash in dvc.lock names an asset's content."""
PUBLISHED = "published.json"
"""File in the state folder: the hashes of each asset that its last event carried."""


def asset_facts(ctx: Context, asset: str) -> dict[str, Any]:
    """Return counts, hashes and links of one asset of the workspace, as JSON values.

    Parameters
    ----------
    ctx : Context
        The workspace.
    asset : str
        dataset, features or model.

    Raises
    ------
    StepError
        When there is no such asset, or it has not been made yet.
    """
    if asset not in _FACTS:
        raise StepError(f"No asset is called {asset!r}.{did_you_mean(asset, _FACTS)} Assets: {', '.join(_FACTS)}.")
    return {"workspace": str(ctx.workspace), **_FACTS[asset](ctx), "hashes": asset_hashes(ctx, asset)}


def asset_hashes(ctx: Context, asset: str) -> dict[str, str]:
    """Return, by path, the hashes in dvc.lock of what an asset holds; empty while nothing of it is recorded."""
    return {path: digest for path in HASHED[asset] if (digest := ctx.lock_digest(path))}


def is_published(ctx: Context, asset: str) -> bool:
    """Return whether the last event of an asset told of what it holds now, or it holds nothing."""
    hashes = asset_hashes(ctx, asset)
    return not hashes or _read_published(ctx).get(asset) == hashes


def note_published(ctx: Context, asset: str, hashes: dict[str, str]) -> None:
    """Keep what an event of an asset told of."""
    write_json(ctx.state / PUBLISHED, {**_read_published(ctx), asset: hashes})


def _read_published(ctx: Context) -> dict[str, Any]:
    path = ctx.state / PUBLISHED
    return dict(read_json(path)) if path.exists() else {}


def _describe_dataset(ctx: Context) -> dict[str, Any]:
    from audioml.store.manifest import MANIFEST, QUARANTINE, read_manifest, read_quarantine
    from audioml.tasks._clip_labels import count_labels

    manifest = read_manifest(
        ctx.require(MANIFEST, made_by="ingest"), ["path", "label", "shard", "start_s", "duration_s"]
    )
    return {
        "clips": len(manifest),
        "hours": round(float(manifest["duration_s"].sum()) / 3600, 3),
        "labels": count_labels(ctx.params, manifest),
        "shards": int(manifest["shard"].nunique()),
        "quarantined": len(read_quarantine(ctx.path(QUARANTINE))),
        "links": {"data_docs": str(ctx.path("reports/validation/index.html"))},
    }


def _describe_features(ctx: Context) -> dict[str, Any]:
    from audioml.store.features import INDEX
    from audioml.store.manifest import SPLITS, read_splits

    index = read_json(ctx.require(f"features/{INDEX}", made_by="featurize"))
    splits = read_splits(ctx.require(SPLITS, made_by="split"))["split"].value_counts()
    return {
        "feature": index["feature"],
        "shape": index["shape"],
        "clips": index["clips"],
        "windows": index["windows"],
        "shards": len(index["shards"]),
        "quarantined": len(index["quarantine"]),
        "splits": {str(name): int(count) for name, count in splits.items()},
        "links": {},
    }


def _describe_model(ctx: Context) -> dict[str, Any]:
    registered = read_json(ctx.require("models/registered.json", made_by="register"))
    run_id = read_json(ctx.require("models/run.json", made_by="train"))["run_id"]
    url = os.environ.get("MLFLOW_TRACKING_URI", "")
    links = {"report": str(ctx.path("reports/evaluation/index.html"))}
    if url.startswith("http"):
        links["model"] = f"{url}/#/models/{registered['name']}/versions/{registered['version']}"
    return {
        "name": registered["name"],
        "version": registered["version"],
        "run_id": run_id,
        "metrics": registered["metrics"],
        "links": links,
    }


_FACTS: dict[str, Callable[[Context], dict[str, Any]]] = {
    "dataset": _describe_dataset,
    "features": _describe_features,
    "model": _describe_model,
}
