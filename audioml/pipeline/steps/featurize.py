"""featurize: packed clips to feature shards, each named by the hash of what made it.

An item is the clips of one packed shard. Packed shards never change, so new clips make new items and leave the old
ones, and their feature shards, as they are; a clip that is withdrawn touches the item that held it. What exists and is
what its record says is not made again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audioml.clean._chain import Sections, describe_chain, load_chain
from audioml.errors import DatasetError, StepError, StoreError
from audioml.features._window import stored_shape, stores_audio
from audioml.params import FeatureParams
from audioml.pipeline.context import Context
from audioml.pipeline.step import Item
from audioml.plugins import load_plugin
from audioml.store.clips import FOLDER as CLIPS_FOLDER
from audioml.store.clips import iter_clips
from audioml.store.code_version import code_version
from audioml.store.features import INDEX, read_index
from audioml.store.files import hash_file, hash_json, read_json, remove_leftovers, write_json
from audioml.store.locks import hold_lock, remove_lock
from audioml.store.manifest import MANIFEST, read_manifest
from audioml.store.shards import SUFFIX, ShardWriter

FOLDER = "features"
FORMAT = 2
"""Part of every key; raise it when the layout of a shard changes."""
KEY_LENGTH = 20
EXAMPLES = 3
_INDEXED = ("sha256", "size_bytes", "rows", "clips")
"""What the index says of a shard, as its record does."""


@dataclass(frozen=True)
class _Recipe:
    """What features are made with, beside the clips. Not the device: features of a GPU may stand in for a CPU's."""

    name: str
    params: FeatureParams
    clean: Sections
    shape: tuple[int, int | None]
    keeps_audio: bool
    code_version: str

    @classmethod
    def of(cls, ctx: Context) -> _Recipe:
        name = ctx.params.features.name
        params: FeatureParams = ctx.params.plugin_section("features")
        clean = ctx.params.clean_sections()
        start = [f"features/{name}.py", *(f"clean/{plugin}.py" for plugin, _ in clean)]
        version = code_version(
            [*start, "inference/extraction.py"],
            within=("audio", "clean", "features", "inference/extraction.py", "units.py"),
        )
        shape = stored_shape(load_plugin("features", name), params)
        return cls(name, params, clean, shape, stores_audio(name, params), version)

    def about(self) -> dict[str, Any]:
        """Return what the index and every shard say of how the features were made."""
        return {
            "feature": self.name,
            "params": self.params.model_dump(mode="json"),
            "clean": describe_chain(self.clean),
        }

    def key(self, clip_ids: Sequence[str]) -> str:
        return hash_json([FORMAT, self.about(), self.keeps_audio, self.code_version, list(clip_ids)])[:KEY_LENGTH]


@dataclass(frozen=True)
class _Job:
    """The clips of one packed shard."""

    item: Item
    clip_ids: Sequence[str]


def plan(ctx: Context) -> list[Item]:
    """Return the items whose shard is missing or damaged; it is read only if its file changed since it was made."""
    jobs = _all_jobs(ctx, _Recipe.of(ctx))
    records = _find_records(ctx, jobs)
    return [job.item for job in jobs if job.item.id not in records]


def work(ctx: Context, item: Item) -> dict[str, Any]:
    """Make the shard of one item and record its checksum, unless another process has just done so.

    Raises
    ------
    StepError
        When params or code changed since the plan.
    StoreError
        When the packed shard is missing or damaged.
    """
    with hold_lock(_records(ctx) / f"{item.id}.lock"):
        record = _trusted_record(ctx, item.id) or _make_shard(ctx, item)
    return {"clips": record["clips"], "windows": record["rows"]}


def _make_shard(ctx: Context, item: Item) -> dict[str, Any]:
    from audioml.inference.extraction import Extractor

    recipe = _Recipe.of(ctx)
    extractor = Extractor(recipe.name, recipe.params, load_chain(recipe.clean))
    clip_ids: list[str] = []

    def read() -> Iterator[tuple[str, bytes]]:
        for clip_id, data in iter_clips(ctx.path(CLIPS_FOLDER) / item.payload["shard"], item.payload["rows"]):
            clip_ids.append(clip_id)
            yield clip_id, data

    failures: list[dict[str, str]] = []
    path = _shard_path(ctx, item.id)
    with ShardWriter(path, recipe.shape[0], recipe.about(), recipe.keeps_audio) as writer:
        for block in extractor.extract_blocks(read()):
            failures += [failure._asdict() for failure in block.failures]
            writer.add(block.clip_ids, block.offsets_s, block.features, block.audio)
        if recipe.key(clip_ids) != item.id:
            raise StepError(
                f"featurize: item {item.id} was planned with other params, code or clips. "
                "Plan again: audioml run featurize --plan"
            )
    return _write_record(ctx, item.id, writer.sha256, writer.rows, len(clip_ids), failures)


def collect(ctx: Context) -> dict[str, Any]:
    """Write the index of all shards; remove shards that no longer belong and what killed runs left.

    Raises
    ------
    StepError
        When the shard of an item is missing or damaged.
    DatasetError
        When a larger share of clips than `ingest.max_bad_share` gives no features.
    """
    recipe = _Recipe.of(ctx)
    jobs = _all_jobs(ctx, recipe)
    records = _find_records(ctx, jobs)
    if unfinished := [job.item.id for job in jobs if job.item.id not in records]:
        raise StepError(
            f"featurize: {len(unfinished)} of {len(jobs)} items are unfinished (first: {unfinished[0]}): their "
            "shards are missing or damaged. Finish them with: audioml run featurize"
        )
    made = [records[job.item.id] for job in jobs]
    quarantine = [failure for record in made for failure in record["quarantine"]]
    summary = {"clips": sum(r["clips"] for r in made) - len(quarantine), "windows": sum(r["rows"] for r in made)}
    _check_share(ctx, summary["clips"], quarantine)
    index = {
        **recipe.about(),
        "shape": list(recipe.shape),
        "code_version": recipe.code_version,
        **summary,
        "shards": [
            {
                "file": f"{job.item.id}{SUFFIX}",
                **{key: record[key] for key in _INDEXED},
            }
            for job, record in zip(jobs, made, strict=True)
        ],
        "quarantine": quarantine,
    }
    write_json(ctx.path(FOLDER) / INDEX, index)
    _remove_others(ctx, set(records))
    return {**summary, "shards": len(made), "shape": list(recipe.shape), "quarantined": len(quarantine)}


def _all_jobs(ctx: Context, recipe: _Recipe) -> list[_Job]:
    manifest = read_manifest(
        ctx.require(MANIFEST, made_by="ingest"), ["clip_id", "shard", "row", "duration_s"]
    ).sort_values(["shard", "row"])
    jobs = []
    for shard, clips in manifest.groupby("shard", sort=True):
        assert isinstance(shard, str)
        clip_ids = clips["clip_id"].tolist()
        label = f"{len(clip_ids)} clips, {clips['duration_s'].sum() / 60:.1f} min"
        payload = {"shard": shard, "rows": clips["row"].tolist()}
        jobs.append(_Job(Item(recipe.key(clip_ids), label, payload, len(clip_ids)), clip_ids))
    return jobs


def _check_share(ctx: Context, n_good: int, quarantine: Sequence[Mapping[str, str]]) -> None:
    n_clips, allowed = n_good + len(quarantine), ctx.params.ingest.max_bad_share
    if n_good and len(quarantine) <= allowed * n_clips:
        return
    examples = "".join(f"\n  {f['clip_id'][:12]}: {f['reason']}: {f['detail']}" for f in quarantine[:EXAMPLES])
    raise DatasetError(
        f"{len(quarantine)} of {n_clips} clips give no features, but ingest.max_bad_share is {allowed:g}:{examples}\n"
        "Correct the sections clean and features of params.yaml, remove these recordings, or raise "
        "ingest.max_bad_share."
    )


def _shard_path(ctx: Context, key: str) -> Path:
    return ctx.path(FOLDER) / f"{key}{SUFFIX}"


def _records(ctx: Context) -> Path:
    """Where each finished shard has a record: its checksum, and the size and time of change it had then."""
    return ctx.state / "featurize"


def _write_record(
    ctx: Context, key: str, sha256: str, rows: int, clips: int, quarantine: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    stat = _shard_path(ctx, key).stat()
    record = {
        "sha256": sha256,
        "size_bytes": stat.st_size,
        "mtime_ns": stat.st_mtime_ns,
        "rows": rows,
        "clips": clips,
        "quarantine": list(quarantine),
    }
    write_json(_records(ctx) / f"{key}.json", record)
    return record


def _read_record(ctx: Context, key: str) -> dict[str, Any] | None:
    with suppress(FileNotFoundError, ValueError):
        record: dict[str, Any] = read_json(_records(ctx) / f"{key}.json")
        return record
    return None


def _trusted_record(ctx: Context, key: str) -> dict[str, Any] | None:
    """Return the record of a shard whose file has not been touched since; None if there is none."""
    record = _read_record(ctx, key)
    with suppress(FileNotFoundError):
        stat = _shard_path(ctx, key).stat()
        if record and (record["size_bytes"], record["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns):
            return record
    return None


def _find_records(ctx: Context, jobs: Sequence[_Job]) -> dict[str, dict[str, Any]]:
    """Return, by key, the records of shards that are there and are what their record or the index says.

    A file that was touched since (brought back by DVC, or damaged), or has no record (a fresh clone), is read and its
    checksum compared.
    """
    records = {job.item.id: record for job in jobs if (record := _trusted_record(ctx, job.item.id))}
    doubtful = [job for job in jobs if job.item.id not in records and _shard_path(ctx, job.item.id).exists()]
    if not doubtful:
        return records
    index: dict[str, Any] = {"shards": [], "quarantine": []}
    with suppress(StoreError):
        index = read_index(ctx.path(FOLDER))
    entries = {entry["file"].removesuffix(SUFFIX): entry for entry in index["shards"]}
    # Hashing releases the GIL.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda job: hash_file(_shard_path(ctx, job.item.id)), doubtful))
    for job, sha256 in zip(doubtful, found, strict=True):
        key = job.item.id
        known = _read_record(ctx, key) or entries.get(key)
        if known and known["sha256"] == sha256:
            held = set(job.clip_ids)
            failures = known.get("quarantine", [f for f in index["quarantine"] if f["clip_id"] in held])
            records[key] = _write_record(ctx, key, sha256, known["rows"], known["clips"], failures)
    return records


def _remove_others(ctx: Context, keys: set[str]) -> None:
    for folder in (ctx.path(FOLDER), _records(ctx)):
        remove_leftovers(folder)
        for path in folder.iterdir():
            if path.suffix == ".lock":
                remove_lock(path)
            elif path.stem not in keys and path.name != INDEX and path.suffix != ".tmp":
                path.unlink(missing_ok=True)
