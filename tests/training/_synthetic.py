"""A small learnable data set in memory: each label is a band of bins that is loud."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from audioml.params import Params, parse_params

LABELS = ("high", "low", "middle")
BINS, FRAMES = SHAPE = (12, 20)
SHARD_WINDOWS = 13


@dataclass
class MemoryFeatures:
    """What `audioml.store.features.FeatureSet` is, without files."""

    windows: list[np.ndarray]
    clip_ids: np.ndarray
    shape: tuple[int, int | None] = SHAPE
    quarantined: dict[str, str] = field(default_factory=dict)
    taken: list[int] = field(default_factory=list)
    """All rows that were taken, in order."""
    audio: list[np.ndarray] = field(default_factory=list)
    """One array a window; none where no audio is kept."""

    @property
    def frames(self) -> np.ndarray:
        return np.array([window.shape[1] for window in self.windows], np.int32)

    @property
    def offsets_s(self) -> np.ndarray:
        return np.zeros(len(self.windows))

    @property
    def shard_starts(self) -> np.ndarray:
        return np.arange(0, len(self.windows), SHARD_WINDOWS)

    @property
    def samples(self) -> np.ndarray:
        return np.array([len(samples) for samples in self.audio] or [0] * len(self.windows), np.int64)

    def take_audio(self, indices: Any, out: np.ndarray) -> np.ndarray:
        out[:] = 0
        for padded, i in zip(out, indices, strict=True):
            padded[: len(self.audio[i])] = self.audio[i]
        return out

    def take(self, indices: Any, fill: Any = 0.0, out: np.ndarray | None = None) -> np.ndarray:
        self.taken += np.asarray(indices).tolist()
        chosen = [self.windows[i] for i in indices]
        if out is None:
            out = np.empty((len(chosen), BINS, max(window.shape[1] for window in chosen)), np.float32)
        out[:] = np.reshape(fill, (-1, 1))
        for padded, window in zip(out, chosen, strict=True):
            padded[:, : window.shape[1]] = window
        return out


def make_data(
    n_clips: int = 60, windows_per_clip: int = 1, frames: Sequence[int] = (FRAMES,)
) -> tuple[MemoryFeatures, pd.DataFrame, pd.DataFrame]:
    """Return features, manifest and splits; lengths of windows go through `frames` in turn."""
    rng = np.random.default_rng(0)
    label_of = np.arange(n_clips) % len(LABELS)
    clip_of = np.repeat(np.arange(n_clips), windows_per_clip)
    windows = []
    for i, clip in enumerate(clip_of):
        window = rng.normal(-40.0, 4.0, (BINS, frames[i % len(frames)])).astype(np.float32)
        start = 4 * label_of[clip]
        window[start : start + 4, window.shape[1] // 4 : -(window.shape[1] // 4)] += 8.0
        windows.append(window)
    ids = [f"clip{i:03d}" for i in range(n_clips)]
    manifest = pd.DataFrame({"clip_id": ids, "label": [LABELS[i] for i in label_of]})
    split = np.where(np.arange(n_clips) % 5 == 4, "validation", "train")
    splits = pd.DataFrame({"clip_id": ids, "split": split})
    shape = SHAPE if len(set(frames)) == 1 else (BINS, None)
    return MemoryFeatures(windows, np.array(ids, dtype=object)[clip_of], shape), manifest, splits


def make_params(features: dict[str, Any] | None = None, **training: Any) -> Params:
    return parse_params(
        {
            "name": "bands",
            "seed": 3,
            "data": {"layout": "folder"},
            "features": {"name": "logmel", "n_mels": BINS, **(features or {})},
            "task": {"name": "classification"},
            "model": {"name": "bcresnet", "width": 1.0},
            "augment": [{"name": "time_shift"}, {"name": "specaugment"}, {"name": "mixup"}],
            "training": {"max_epochs": 6, "batch_size": 8, "warmup_epochs": 1.0, "accelerator": "cpu"} | training,
        }
    )
