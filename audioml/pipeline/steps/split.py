"""split: assign clips to train, validation and test, and to folds, groups whole; a leak is an error."""

from __future__ import annotations

from typing import Any

from audioml.errors import DatasetError
from audioml.pipeline.context import Context
from audioml.pipeline.folding import assign_folds, check_folds
from audioml.pipeline.splitting import check_splits
from audioml.pipeline.step import Item
from audioml.store.files import read_json
from audioml.store.folds import list_folds
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits, write_splits
from audioml.tasks._clip_labels import labels_of, min_labels

VALIDATION = "reports/validation.json"


def plan(ctx: Context) -> list[Item]:
    """Return the one item: the manifest.

    Raises
    ------
    DatasetError
        When the manifest has failed its checks.
    """
    ctx.require(MANIFEST, "ingest")
    if not read_json(ctx.require(VALIDATION, "validate"))["success"]:
        raise DatasetError(
            f"The manifest has failed its checks (see {VALIDATION}), so it is not split. "
            "Repair the data, then: audioml run validate"
        )
    return [Item("manifest", "all clips")]


def work(ctx: Context, item: Item) -> dict[str, Any]:
    """Assign every clip and write the table of splits."""
    manifest = read_manifest(ctx.path(MANIFEST))
    labels = labels_of(ctx.params, manifest)
    splits = assign_folds(manifest, ctx.params.split, ctx.params.seed, labels, min_labels(ctx.params))
    write_splits(ctx.path(SPLITS), splits)
    return {"clips": len(splits)}


def collect(ctx: Context) -> dict[str, Any]:
    """Check what was written for leaks and return the number of clips of each split, and of folds."""
    splits = read_splits(ctx.require(SPLITS, "split"))
    manifest = read_manifest(ctx.path(MANIFEST))
    check_splits(manifest, splits, ctx.params.split.group, labels_of(ctx.params, manifest))
    check_folds(manifest, splits, ctx.params.split.group)
    counts = splits["split"].value_counts()
    n_folds = len(list_folds(splits))
    return {name: int(counts.get(name, 0)) for name in ("train", "validation", "test")} | (
        {"folds": n_folds} if n_folds else {}
    )
