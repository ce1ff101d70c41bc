"""featurize: packed clips to feature shards, each named by the hash of what made it.

An item is a run of clips of one packed shard. Packed shards never change, so new clips make new items and leave
the old ones, and their feature shards, as they are. What exists and matches its recorded checksum is not made again.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioml.audio.decode import decode
from audioml.audio.prepare import prepare_audio
from audioml.errors import DecodeError, StepError, StoreError
from audioml.params import FeatureParams
from audioml.pipeline.context import Context
from audioml.pipeline.step import Item
from audioml.plugins import load_plugin
from audioml.store.clips import FOLDER as CLIPS_FOLDER
from audioml.store.clips import read_clips
from audioml.store.code_version import code_version
from audioml.store.files import hash_file, hash_json, remove_leftovers, write_json, write_text
from audioml.store.manifest import MANIFEST, read_manifest
from audioml.store.shards import INDEX, SUFFIX, read_index, read_shard, write_shard

FOLDER = "features"
FORMAT = 1
"""Part of every key; raise it when the layout of a shard changes."""
ITEM_AUDIO_S = 900.0
"""Audio per item in seconds, windows that overlap counted each: 58 MB of samples at 16 kHz, below 1 s of work."""
ITEM_CLIPS = 1000
KEY_LENGTH = 20


@dataclass(frozen=True)
class _Recipe:
    """What features are made with, beside the clips."""

    name: str
    params: FeatureParams
    shape: tuple[int, int]
    code_version: str

    @classmethod
    def of(cls, ctx: Context) -> _Recipe:
        name = ctx.params.features.name
        params: FeatureParams = ctx.params.plugin_section("features")
        start = (f"features/{name}.py", "audio/decode.py", "audio/prepare.py")
        version = code_version(start, within=("audio", "features", "units.py"))
        return cls(name, params, load_plugin("features", name).feature_shape(params), version)

    def key(self, clip_ids: Sequence[str]) -> str:
        made_from = [FORMAT, self.name, self.params.model_dump(mode="json"), self.code_version, list(clip_ids)]
        return hash_json(made_from)[:KEY_LENGTH]


def plan(ctx: Context) -> list[Item]:
    """Return the items whose shard is missing or damaged. Reads all shards that are there, to verify them."""
    items = _all_items(ctx, _Recipe.of(ctx))
    verified = _verify(ctx, [item.id for item in items])
    return [item for item in items if item.id not in verified]


def work(ctx: Context, item: Item) -> dict[str, Any]:
    """Make the shard of one item and record its checksum.

    Raises
    ------
    StepError
        When a clip cannot be decoded, or params or code changed since the plan.
    """
    recipe = _Recipe.of(ctx)
    clips = read_clips(ctx.path(CLIPS_FOLDER) / item.payload["shard"], item.payload["rows"])
    if recipe.key([clip_id for clip_id, _ in clips]) != item.id:
        raise StepError(
            f"featurize: item {item.id} was planned with other params, code or clips. "
            "Plan again: audioml run featurize --plan"
        )
    clip_ids: list[str] = []
    all_windows: list[NDArray[np.float32]] = []
    all_offsets_s: list[NDArray[np.float64]] = []
    for clip_id, data in clips:
        try:
            audio, sample_rate = decode(data)
        except DecodeError as error:
            raise StepError(
                f"featurize: clip {clip_id[:12]} of {item.payload['shard']} passed ingest but cannot be decoded: "
                f"{error}. Run: audioml run ingest"
            ) from error
        windows, offsets_s = prepare_audio(audio, sample_rate, recipe.params)
        clip_ids += [clip_id] * len(windows)
        all_windows.append(windows)
        all_offsets_s.append(offsets_s)
    features = load_plugin("features", recipe.name).extract(recipe.params, np.concatenate(all_windows))
    if features.shape != (len(clip_ids), *recipe.shape):
        raise StepError(
            f"features/{recipe.name}.py: extract gave shape {features.shape}, but feature_shape says "
            f"{(len(clip_ids), *recipe.shape)}; make them agree."
        )
    about = {"feature": recipe.name, "params": recipe.params.model_dump(mode="json")}
    sha256 = write_shard(_shard_path(ctx, item.id), clip_ids, np.concatenate(all_offsets_s), features, about)
    write_text(_record_path(ctx, item.id), sha256)
    return {"clips": len(clips), "windows": len(clip_ids)}


def collect(ctx: Context) -> dict[str, Any]:
    """Write the index of all shards; remove shards that no longer belong and what killed runs left.

    Raises
    ------
    StepError
        When the shard of an item is missing or damaged.
    """
    recipe = _Recipe.of(ctx)
    items = _all_items(ctx, recipe)
    verified = _verify(ctx, [item.id for item in items])
    if unfinished := [item.id for item in items if item.id not in verified]:
        raise StepError(
            f"featurize: {len(unfinished)} of {len(items)} items are unfinished (first: {unfinished[0]}): their "
            "shards are missing or damaged. Finish them with: audioml run featurize"
        )
    shards: list[dict[str, Any]] = [
        {
            "file": _shard_path(ctx, item.id).name,
            "sha256": verified[item.id],
            "rows": len(read_shard(_shard_path(ctx, item.id)).clip_ids),
            "clips": len(item.payload["rows"]),
        }
        for item in items
    ]
    summary = {"clips": sum(s["clips"] for s in shards), "windows": sum(s["rows"] for s in shards)}
    index = {
        "feature": recipe.name,
        "params": recipe.params.model_dump(mode="json"),
        "shape": list(recipe.shape),
        "code_version": recipe.code_version,
        **summary,
        "shards": shards,
    }
    write_json(ctx.path(FOLDER) / INDEX, index)
    _remove_others(ctx, set(verified))
    return {**summary, "shards": len(shards), "shape": list(recipe.shape)}


def _all_items(ctx: Context, recipe: _Recipe) -> list[Item]:
    """Cut each packed shard, in the order of its rows, into runs of bounded length."""
    manifest = read_manifest(ctx.require(MANIFEST, made_by="ingest"))
    items = []
    for shard, clips in manifest.sort_values(["shard", "row"]).groupby("shard", sort=True):
        costs_s = [_cost_s(float(duration_s), recipe.params) for duration_s in clips["duration_s"]]
        rows = [int(row) for row in clips["row"]]
        clip_ids = list(clips["clip_id"])
        for run in _runs(costs_s):
            label = f"{run.stop - run.start} clips, {sum(costs_s[run]) / 60:.1f} min"
            items.append(Item(recipe.key(clip_ids[run]), label, {"shard": str(shard), "rows": rows[run]}))
    return items


def _cost_s(duration_s: float, params: FeatureParams) -> float:
    """Return the seconds of audio that a clip puts into memory: itself, or its windows, whichever is more."""
    windows = 1
    if params.length == "segment" and duration_s > params.duration_s:
        hop_s = params.segment_hop_s or params.duration_s / 2
        windows += math.ceil((duration_s - params.duration_s) / hop_s)
    return max(duration_s, windows * params.duration_s)


def _runs(costs_s: Sequence[float]) -> Iterator[slice]:
    """Yield slices of consecutive clips, each as long as the bounds allow and at least one clip."""
    start, total_s = 0, 0.0
    for i, cost_s in enumerate(costs_s):
        if i > start and (total_s + cost_s > ITEM_AUDIO_S or i - start == ITEM_CLIPS):
            yield slice(start, i)
            start, total_s = i, 0.0
        total_s += cost_s
    if costs_s:
        yield slice(start, len(costs_s))


def _shard_path(ctx: Context, key: str) -> Path:
    return ctx.path(FOLDER) / f"{key}{SUFFIX}"


def _record_path(ctx: Context, key: str) -> Path:
    """Where the checksum of a finished shard is kept until, and after, the index has it."""
    return _records(ctx) / f"{key}.sha256"


def _records(ctx: Context) -> Path:
    return ctx.state / "featurize"


def _verify(ctx: Context, keys: Sequence[str]) -> dict[str, str]:
    """Return key and SHA-256 of the shards that are there and match what the index or their own record says."""
    expected: dict[str, str] = {}
    with suppress(StoreError):
        for entry in read_index(ctx.path(FOLDER))["shards"]:
            expected[entry["file"].removesuffix(SUFFIX)] = entry["sha256"]
    # A fresh clone has the index but no records; a killed run left records but no index.
    for key in keys:
        if (record := _record_path(ctx, key)).exists():
            expected[key] = record.read_text(encoding="utf-8")
    there = [key for key in keys if key in expected and _shard_path(ctx, key).exists()]
    # Hashing releases the GIL.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(there, pool.map(hash_file, map(partial(_shard_path, ctx), there)), strict=True))
    return {key: sha256 for key, sha256 in found.items() if sha256 == expected[key]}


def _remove_others(ctx: Context, keys: set[str]) -> None:
    folders = {ctx.path(FOLDER): SUFFIX, _records(ctx): ".sha256"}
    for folder, suffix in folders.items():
        remove_leftovers(folder)
        for path in folder.glob(f"*{suffix}"):
            if path.name.removesuffix(suffix) not in keys:
                path.unlink(missing_ok=True)
