import hashlib

import pandas as pd
import pytest

from audioml.orchestration.demo import choose_clips
from audioml.pipeline.context import Context
from audioml.store.clips import Clip, write_clips
from audioml.store.manifest import MANIFEST, SPLITS, build_manifest, write_manifest, write_splits
from audioml.store.recordings import build_facts


@pytest.fixture
def ctx(workspace):
    """A workspace with two labels of three clips each, the first of each for training."""
    context = Context.load(workspace)
    clips = []
    for label in ("yes", "no"):
        for index in range(3):
            data = f"{label} {index}".encode()
            clips.append(Clip(hashlib.sha256(data).hexdigest(), f"{label}/{index}.wav", data))
    shard = write_clips(workspace / "data" / "audio", clips)
    shares = dict.fromkeys(["dc_offset", "clipped_share", "silent_share"], 0.0)
    sound = {
        "start_s": 0.0,
        "duration_s": 1.0,
        "sample_rate": 8000,
        "channels": 1,
        "format": "WAV",
        "subtype": "PCM_16",
    }
    levels = {"size_bytes": 1, "peak_dbfs": -1.0, "rms_dbfs": -20.0}
    facts = [
        {"clip_id": c.clip_id, "path": c.path, "shard": shard, "row": row, **sound, **levels, **shares}
        for row, c in enumerate(clips)
    ]
    labels = [c.path.partition("/")[0] for c in clips]
    write_manifest(context.path(MANIFEST), build_manifest(build_facts(facts), {"label": labels}))
    split = ["train" if c.path.endswith("0.wav") else "test" for c in clips]
    write_splits(context.path(SPLITS), pd.DataFrame({"clip_id": [c.clip_id for c in clips], "split": split, "fold": 0}))
    return context


def test_one_held_out_clip_of_each_label(ctx):
    chosen = choose_clips(ctx)
    assert [c["label"] for c in chosen] == ["no", "yes"]
    for clip in chosen:
        label, name = clip["path"].split("/")
        assert label == clip["label"]
        assert name != "0.wav"
        assert clip["data"] == f"{label} {name[0]}".encode()
    assert choose_clips(ctx) == chosen
