"""`audioml compact`: compaction that leaves every step up to date that was so before."""

from __future__ import annotations

import os
from typing import Any

from audioml.orchestration import dvc
from audioml.pipeline.compaction import compact_clips
from audioml.pipeline.context import COMPACTION, Context
from audioml.pipeline.graph import STEPS, find_step
from audioml.pipeline.runner import run_step
from audioml.pipeline.steps.featurize import FOLDER as FEATURES
from audioml.store.clips import FOLDER as CLIPS
from audioml.store.files import hash_bytes, read_json, write_json
from audioml.store.manifest import MANIFEST, read_manifest

MOVED = (CLIPS, MANIFEST, FEATURES)
"""What compaction writes anew."""


def compact(ctx: Context, jobs: int | None = None) -> dict[str, Any]:
    """Compact packed clips, make the feature shards of the new ones, and record both with DVC.

    Clips, labels and features stay the same, byte for byte; they only lie in other files. So the steps that were up
    to date before are recorded as up to date, and nothing is trained again. Which these were is noted first: when
    this is killed the next compaction records them, unless a step ran or the clips changed in between.
    """
    intent = ctx.state / COMPACTION
    clips = _hash_clips(ctx)
    noted = read_json(intent) if intent.exists() else {"clips": None, "fresh": []}
    before = set(noted["fresh"]) if noted["clips"] == clips else set()
    fresh: set[str] = set()
    for decision in dvc.decide(ctx):
        moved = {f"{kind} modified: {path}" for kind in ("input", "output") for path in MOVED}
        moved |= {f"{name} runs before it" for name in fresh}
        if not decision.run or (decision.step in before and moved.issuperset(decision.reasons)):
            fresh.add(decision.step)
    write_json(intent, {"process": os.getpid(), "clips": clips, "fresh": sorted(fresh)})
    summary = compact_clips(ctx)
    if summary["clips_moved"] or before:
        if "featurize" in fresh:
            run_step(ctx, find_step("featurize"), jobs)
        for step in STEPS:
            if step.name in fresh:
                dvc.record_step(ctx, step)
    intent.unlink(missing_ok=True)
    return summary


def _hash_clips(ctx: Context) -> str:
    """Return a hash of all that the manifest says of the clips, but where they lie."""
    manifest = read_manifest(ctx.require(MANIFEST, made_by="ingest"))
    return hash_bytes(manifest.drop(columns=["shard", "row"]).to_csv(index=False).encode())
