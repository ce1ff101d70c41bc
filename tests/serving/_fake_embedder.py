"""A model whose embedding of a file is the direction in degrees that stands in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from audioml.errors import DecodeError
from audioml.serving.embedder import Embedder
from audioml.serving.speaker_index import Floats, Maker


def make_embedder(version: int = 1, turn_deg: float = 0.0, accept_above: float | None = 0.9) -> Embedder:
    """Return a version of it; `turn_deg` is added to all directions."""

    def embed(data: bytes) -> Floats:
        try:
            angle = np.deg2rad(float(data.split()[0]) + turn_deg)
        except ValueError:
            raise DecodeError("unreadable", "not a number") from None
        return np.array([np.cos(angle), np.sin(angle)], np.float32)

    return Embedder(Maker("voices", version, f"{version:064x}", f"run{version}"), accept_above, embed)


def write_clips(folder: Path, *directions_deg: float) -> list[Path]:
    """Write a file for each direction, named by it."""
    paths = [folder / f"{direction:g}.wav" for direction in directions_deg]
    for path, direction in zip(paths, directions_deg, strict=True):
        path.write_text(str(direction))
    return paths
