"""split: assign clips to train, validation and test, to folds and shares, groups whole; a leak is an error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from audioml.errors import DatasetError
from audioml.pipeline.context import Context
from audioml.pipeline.folding import assign_folds, check_folds
from audioml.pipeline.splitting import check_splits, select_clips
from audioml.pipeline.step import Item
from audioml.pipeline.train_shares import assign_shares
from audioml.store.files import read_json
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits, write_splits
from audioml.store.parts import list_parts
from audioml.tasks._clip_labels import is_open, labels_of, min_labels

if TYPE_CHECKING:
    import pandas as pd

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
    params, seed, labels = ctx.params.split, ctx.params.seed, _labels_to_learn(ctx, manifest)
    splits = assign_folds(manifest, params, seed, labels, min_labels(ctx.params))
    splits = assign_shares(manifest, splits, params, seed, labels)
    write_splits(ctx.path(SPLITS), splits)
    return {"clips": len(splits)}


def collect(ctx: Context) -> dict[str, Any]:
    """Check what was written for leaks and return the number of clips of each split, of folds and of shares."""
    splits = read_splits(ctx.require(SPLITS, "split"))
    manifest = read_manifest(ctx.path(MANIFEST))
    check_splits(manifest, splits, ctx.params.split.group, _labels_to_learn(ctx, manifest))
    check_folds(manifest, splits, ctx.params.split.group)
    counts = splits["split"].value_counts()
    parts = Counter(f"{part.kind}s" for part in list_parts(splits))
    return {name: int(counts.get(name, 0)) for name in ("train", "validation", "test")} | parts


def _labels_to_learn(ctx: Context, manifest: pd.DataFrame) -> Sequence[Sequence[str]] | None:
    """Return the labels of each clip that training must have; those of test clips are free where the task says so."""
    labels, query = labels_of(ctx.params, manifest), ctx.params.split.test
    if labels is not None or query is None or not is_open(ctx.params):
        return labels
    judged = select_clips(manifest, query, "split.test")
    return [[] if held_out else [str(label)] for held_out, label in zip(judged, manifest["label"], strict=True)]
