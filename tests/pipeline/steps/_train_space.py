"""A workspace that is ready to train: 20 clips to learn from and 10 to validate on, of two bands of bins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from audioml.pipeline.context import Context
from audioml.store.clips import Clip, write_clips
from audioml.store.files import hash_bytes, write_json
from audioml.store.manifest import MANIFEST, MANIFEST_TYPES, SPLITS, write_manifest, write_splits
from audioml.store.shards import ShardWriter

LABELS, SHAPE = ("high", "low"), (8, 12)


def make_workspace(folder: Path, model: dict[str, Any] | None = None, **training: Any) -> Context:
    params = {
        "name": "bands",
        "data": {"layout": "folder"},
        "features": {"name": "logmel"},
        "task": {"name": "classification"},
        "model": model or {"name": "rescnn", "channels": [8], "width": 8},
        "augment": [{"name": "time_shift"}],
        "training": {"max_epochs": 4, "batch_size": 8, "accelerator": "cpu"} | training,
    }
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    ctx = Context.load(folder)
    rng = np.random.default_rng(0)
    audio = [f"audio {i:02d}".encode() for i in range(30)]
    clips = [Clip(hash_bytes(data), f"{i:02d}.wav", data) for i, data in enumerate(audio)]
    shard = write_clips(ctx.path("data/audio"), clips)
    table = {name: [0] * len(clips) for name in MANIFEST_TYPES} | {
        "clip_id": [clip.clip_id for clip in clips],
        "path": [clip.path for clip in clips],
        "label": [LABELS[i % 2] for i in range(len(clips))],
        "shard": shard,
        "row": range(len(clips)),
        "format": "WAV",
        "subtype": "PCM_16",
    }
    write_manifest(ctx.path(MANIFEST), pd.DataFrame(table))
    split = ["validation" if i % 3 == 2 else "train" for i in range(len(clips))]
    write_splits(ctx.path(SPLITS), pd.DataFrame({"clip_id": table["clip_id"], "split": split, "fold": 0}))
    features = rng.normal(-40, 3, (len(clips), *SHAPE)).astype(np.float32)
    features[::2, :4] += 10
    with ShardWriter(ctx.path("features/a.arrow"), SHAPE[0]) as writer:
        writer.add(table["clip_id"], np.zeros(len(clips)), features)
    index = {
        "feature": "logmel",
        "params": {"n_mels": SHAPE[0]},
        "clean": [{"name": "remove_dc", "params": {}}],
        "shape": SHAPE,
        "shards": [{"file": "a.arrow", "sha256": writer.sha256, "rows": len(clips)}],
    }
    write_json(ctx.path("features/index.json"), index)
    return ctx
