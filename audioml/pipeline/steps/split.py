"""split: assign clips to train, validation and test, groups whole; a leak is an error."""

from __future__ import annotations

from typing import Any

from audioml.errors import DatasetError
from audioml.pipeline.context import Context
from audioml.pipeline.splitting import assign_splits, check_splits
from audioml.pipeline.step import Item
from audioml.store.files import read_json
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits, write_splits

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
    splits = assign_splits(read_manifest(ctx.path(MANIFEST)), ctx.params.split, ctx.params.seed)
    write_splits(ctx.path(SPLITS), splits)
    return {"clips": len(splits)}


def collect(ctx: Context) -> dict[str, Any]:
    """Check what was written for leaks and return the number of clips of each split."""
    splits = read_splits(ctx.require(SPLITS, "split"))
    check_splits(read_manifest(ctx.path(MANIFEST)), splits, ctx.params.split.group)
    counts = splits["split"].value_counts()
    return {name: int(counts.get(name, 0)) for name in ("train", "validation", "test")}
