"""Recordings and workspaces for benchmarks: real ones multiplied, and made-up ones of any number."""

from __future__ import annotations

import hashlib
import io
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import yaml

from audioml.pipeline.context import Context
from audioml.store.clips import FOLDER, Clip, Packer
from audioml.store.manifest import MANIFEST, MANIFEST_TYPES, read_manifest, write_manifest

DATA = Path(os.environ.get("AUDIOML_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
FSDD = DATA / "fsdd" / "recordings"
FSDD_PATTERN = r"(?P<label>\d)_(?P<speaker>\w+)_(?P<index>\d+)"
ESC10 = DATA / "esc10"


def make_workspace(folder: Path, **sections: Any) -> Context:
    """Return a workspace in `folder` with these sections of params.yaml, the others as small as they can be."""
    base = {
        "name": "bench",
        "data": {"layout": "folder", "source": "."},
        "features": {"name": "logmel"},
        "task": {"name": "classification"},
        "model": {"name": "rescnn"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump({**base, **sections}))
    return Context.load(folder)


def multiply_oggs(sources: list[Path], times: int, folder: Path) -> int:
    """Write each Ogg file `times` times, the same audio with a note behind its last page; return how many files.

    The folder of each source's name is kept.
    """
    for source in sources:
        place = folder / source.parent.name
        place.mkdir(parents=True, exist_ok=True)
        for i in range(times):
            (place / f"{source.stem}-{i}.ogg").write_bytes(source.read_bytes() + f"copy {i}".encode())
    return times * len(sources)


def multiply_wavs(sources: list[Path], times: int, folder: Path) -> int:
    """Write each WAV file `times` times, the same audio in different bytes (a comment chunk); return how many files."""
    folder.mkdir(parents=True)
    for source in sources:
        data = source.read_bytes()
        for i in range(times):
            note = struct.pack("<4sI4sI4sI8s", b"LIST", 20, b"INFO", 0, b"ICMT", 8, f"{i:08d}".encode())
            body = data[8:] + note
            copy = b"RIFF" + struct.pack("<I", len(body)) + body
            (folder / f"{source.stem}{i:03d}.wav").write_bytes(copy)
    return times * len(sources)


def made_up_clips(start: int, stop: int, duration_s: float, rate: int) -> Iterator[Clip]:
    """Yield WAV clips of noise with a level of its own each: 16 bits, one channel."""
    noise = np.random.default_rng(0).integers(-8000, 8000, int(duration_s * rate) + stop % 97 + 97, dtype=np.int16)
    length = int(duration_s * rate)
    buffer = io.BytesIO()
    soundfile.write(buffer, noise[:length], rate, format="WAV", subtype="PCM_16")
    header = buffer.getvalue()[:44]
    for i in range(start, stop):
        audio = np.roll(noise, i % 89)[:length].copy()
        audio[:4] = np.frombuffer(struct.pack("<q", i), np.int16)
        data = header + audio.tobytes()
        yield Clip(hashlib.sha256(data).hexdigest(), f"{i % 10}/{i}.wav", data)


def add_made_up_clips(ctx: Context, start: int, stop: int, duration_s: float = 1.0, rate: int = 16000) -> None:
    """Pack made-up clips into new shards of a workspace and add them to its manifest."""
    packer = Packer(ctx.path(FOLDER), ctx.params.ingest.shard_mb * 1e6, ctx.params.ingest.shard_s)
    rows = []
    for clip in made_up_clips(start, stop, duration_s, rate):
        packer.add(clip, duration_s)
        rows.append({"clip_id": clip.clip_id, "path": clip.path, "label": clip.path[0], "size_bytes": len(clip.data)})
    places = packer.finish()
    frame = pd.DataFrame(rows)
    frame["shard"] = [places[clip_id].shard for clip_id in frame["clip_id"]]
    frame["row"] = [places[clip_id].row for clip_id in frame["clip_id"]]
    filled = {"duration_s": duration_s, "sample_rate": rate, "channels": 1, "format": "WAV", "subtype": "PCM_16"}
    for name in MANIFEST_TYPES:
        if name not in frame:
            frame[name] = filled.get(name, 0.0)
    path = ctx.path(MANIFEST)
    write_manifest(path, pd.concat([read_manifest(path), frame]) if path.exists() else frame)
