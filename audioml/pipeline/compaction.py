"""Compaction: many small packed shards become few full ones, and what was withdrawn leaves the disk.

Each run of ingest packs what is new into shards of its own, so a source that grows a little every day leaves many
small ones; and a withdrawn clip stays in its shard, as shards never change. Compaction packs the clips of such shards
anew. No clip changes, and none is lost when it is killed: old shards go last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from audioml.pipeline.context import Context
from audioml.pipeline.ingest_job import SPREAD_FROM_FILES, SPREAD_ITEMS
from audioml.pipeline.progress import show_progress
from audioml.store.clips import FOLDER, Clip, Packer, Place, count_rows, iter_clips
from audioml.store.locks import hold_lock
from audioml.store.manifest import MANIFEST, read_manifest, write_manifest
from audioml.store.recordings import move_facts, read_facts

if TYPE_CHECKING:
    import pandas as pd

SMALL = 0.5
"""A shard that is filled less than this is packed anew with others."""


def compact_clips(ctx: Context) -> dict[str, Any]:
    """Pack small shards, and those that hold withdrawn clips, anew.

    Returns
    -------
    ``shards_before``, ``shards_after``, ``clips_moved`` and ``clips_removed`` (withdrawn ones: neither the manifest nor
    ingest knows of them any more).

    Raises
    ------
    StepError
        When there is no manifest yet.
    StoreError
        When a shard is missing or damaged; then nothing changes.
    """
    with hold_lock(ctx.state / "locks" / "manifest"):
        return _compact(ctx)


def _compact(ctx: Context) -> dict[str, Any]:
    manifest = read_manifest(ctx.require(MANIFEST, made_by="ingest"))
    folder = ctx.path(FOLDER)
    stored = _stored(ctx, manifest)
    packer = _make_packer(ctx, stored)
    before = set(stored["shard"])
    chosen, removed = [], 0
    for shard, clips in stored.groupby("shard", sort=True):
        assert isinstance(shard, str)
        dead = count_rows(folder / shard) - len(clips)
        shares = map(packer.share, clips["size_bytes"], clips["duration_s"])
        if dead or sum(shares) < SMALL:
            chosen.append((shard, clips))
            removed += dead
    if removed or len(chosen) > 1:
        with show_progress() as progress:
            for shard, clips in progress.track(chosen, description="compact"):
                packed = iter_clips(folder / shard, clips["row"].tolist())
                for (clip_id, data), path, duration_s in zip(packed, clips["path"], clips["duration_s"], strict=True):
                    packer.add(Clip(clip_id, path, data), duration_s)
        _move(ctx, manifest, packer.finish())
    after = set(_stored(ctx, read_manifest(ctx.path(MANIFEST)))["shard"])
    # What is in neither set may be the work of an ingest that is not collected yet.
    for name in {shard for shard, _ in chosen} - after:
        (folder / name).unlink()
    return {
        "shards_before": len(before),
        "shards_after": len(after),
        "clips_moved": len(packer.places),
        "clips_removed": removed,
    }


def _stored(ctx: Context, manifest: pd.DataFrame) -> pd.DataFrame:
    """Return all packed clips that are known, a row each, by shard and row.

    They are those of the manifest, and those that ingest alone keeps in mind, such as the ones with conflicting labels.
    """
    import pandas as pd

    columns = ["clip_id", "path", "shard", "row", "size_bytes", "duration_s"]
    parts = [manifest[columns]]
    for known in (ctx.state / "ingest").glob("*/known.parquet"):
        facts = read_facts(known, columns).to_pandas()
        there = {path.name for path in ctx.path(FOLDER).glob("*.parquet")}
        parts.append(facts[facts["shard"].isin(there)].astype({"row": "int64", "size_bytes": "int64"}))
    return pd.concat(parts).drop_duplicates(["shard", "row"]).sort_values(["shard", "row"])


def _make_packer(ctx: Context, stored: pd.DataFrame) -> Packer:
    """Return a packer for full shards, but smaller ones where full ones would be too few to spread work over."""
    ingest = ctx.params.ingest
    packer = Packer(ctx.path(FOLDER), ingest.shard_mb * 1e6, ingest.shard_s)
    fill = sum(map(packer.share, stored["size_bytes"], stored["duration_s"]))
    if len(stored) >= SPREAD_FROM_FILES and fill < SPREAD_ITEMS:
        packer.max_bytes *= fill / SPREAD_ITEMS
        packer.max_s *= fill / SPREAD_ITEMS
    return packer


def _move(ctx: Context, manifest: pd.DataFrame, places: dict[str, Place]) -> None:
    moved = manifest["clip_id"].isin(places)
    new = [places[clip_id] for clip_id in manifest.loc[moved, "clip_id"]]
    manifest.loc[moved, "shard"] = [place.shard for place in new]
    manifest.loc[moved, "row"] = [place.row for place in new]
    write_manifest(ctx.path(MANIFEST), manifest)
    for known in (ctx.state / "ingest").glob("*/known.parquet"):
        move_facts(known, places)
