"""Is what is stored what it should be: every packed shard and every feature shard, by checksum if asked.

A damaged shard is moved to `.audioml/damaged`, so that the next run makes it again; nothing is deleted.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from audioml.errors import StoreError
from audioml.pipeline.context import Context
from audioml.pipeline.progress import show_progress
from audioml.pipeline.steps.featurize import FOLDER as FEATURES
from audioml.store.clips import FOLDER as CLIPS
from audioml.store.clips import count_rows, iter_clips
from audioml.store.features import read_index
from audioml.store.files import hash_file
from audioml.store.manifest import MANIFEST, read_manifest

DAMAGED = "damaged"
"""Folder in `.audioml` for shards that were found damaged."""
Check = tuple[str, str, Callable[[], None]]
"""A file relative to the workspace, the step that makes it, and a function that raises StoreError if it is bad."""


@dataclass(frozen=True)
class Damage:
    """One file that is missing or damaged."""

    file: str
    """Relative to the workspace."""
    problem: str
    remedy: str


def check_store(ctx: Context, deep: bool = False) -> tuple[int, list[Damage]]:
    """Check all shards and move damaged ones out of the way.

    Parameters
    ----------
    deep
        Also read every byte: each clip's SHA-256 is compared with its id, each feature shard's with the index.

    Returns
    -------
    (files checked, findings)
    """
    checks = [*_clip_checks(ctx, deep), *_feature_checks(ctx, deep)]
    with show_progress() as progress, ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = list(
            progress.track(pool.map(lambda check: _problem(check[2]), checks), total=len(checks), description="check")
        )
    findings = []
    for (file, step, _), problem in zip(checks, problems, strict=True):
        if problem is not None:
            _set_aside(ctx, file)
            findings.append(Damage(file, problem, f"audioml run {step}"))
    return len(checks), findings


def _clip_checks(ctx: Context, deep: bool) -> Iterator[Check]:
    path = ctx.path(MANIFEST)
    if not path.exists():
        return
    manifest = read_manifest(path, ["clip_id", "shard", "row"]).sort_values(["shard", "row"])
    for shard, clips in manifest.groupby("shard", sort=True):
        assert isinstance(shard, str)
        clip_ids, rows = clips["clip_id"].tolist(), clips["row"].tolist()
        packed = ctx.path(CLIPS) / shard
        check = _clips_check(packed, clip_ids, rows, deep)
        yield f"{CLIPS}/{shard}", "ingest", check


def _clips_check(path: Path, clip_ids: list[str], rows: list[int], deep: bool) -> Callable[[], None]:
    def check() -> None:
        if count_rows(path) <= rows[-1]:
            raise StoreError(f"it has {count_rows(path)} clips, but the manifest names row {rows[-1]}")
        if deep and (found := [clip_id for clip_id, _ in iter_clips(path, rows)]) != clip_ids:
            wrong = next(row for row, one, other in zip(rows, found, clip_ids, strict=True) if one != other)
            raise StoreError(f"row {wrong} is not the clip that the manifest says")

    return check


def _feature_checks(ctx: Context, deep: bool) -> Iterator[Check]:
    if not (ctx.path(FEATURES) / "index.json").exists():
        return
    for entry in read_index(ctx.path(FEATURES))["shards"]:
        path = ctx.path(FEATURES) / entry["file"]
        yield f"{FEATURES}/{entry['file']}", "featurize", _shard_check(path, entry["size_bytes"], entry["sha256"], deep)


def _shard_check(path: Path, size_bytes: int, sha256: str, deep: bool) -> Callable[[], None]:
    def check() -> None:
        if not path.exists():
            raise StoreError("it is missing")
        if (found := path.stat().st_size) != size_bytes:
            raise StoreError(f"it has {found} bytes, but the index says {size_bytes}")
        if deep and (digest := hash_file(path)) != sha256:
            raise StoreError(f"its SHA-256 is {digest[:12]}…, but the index says {sha256[:12]}…")

    return check


def _problem(check: Callable[[], None]) -> str | None:
    try:
        check()
    except StoreError as error:
        return str(error)
    return None


def _set_aside(ctx: Context, file: str) -> None:
    path = ctx.path(file)
    if path.exists():
        place = ctx.state / DAMAGED / file
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)


def remedies(findings: Iterable[Damage]) -> list[str]:
    """Return the commands that make again what was found, in the order of the flow, each once."""
    return list(dict.fromkeys(finding.remedy for finding in findings))
