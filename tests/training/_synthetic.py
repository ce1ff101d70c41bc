"""A small learnable data set in memory: each label is a band of bins that is loud."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from audioml.params import Params, parse_params

LABELS = ("high", "low", "middle")
SHAPE = (12, 20)


@dataclass
class MemoryFeatures:
    windows: np.ndarray
    clip_ids: np.ndarray
    shape: tuple[int, int] = SHAPE
    taken: list[int] = field(default_factory=list)

    def take(self, indices: Any) -> np.ndarray:
        self.taken.append(len(indices))
        return self.windows[np.asarray(indices)]


def make_data(n_clips: int = 60, windows_per_clip: int = 1) -> tuple[MemoryFeatures, pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(0)
    label_of = np.arange(n_clips) % len(LABELS)
    clip_of = np.repeat(np.arange(n_clips), windows_per_clip)
    windows = rng.normal(-40.0, 4.0, (len(clip_of), *SHAPE)).astype(np.float32)
    for i, clip in enumerate(clip_of):
        start = 4 * label_of[clip]
        windows[i, start : start + 4, 5:15] += 8.0
    ids = [f"clip{i:03d}" for i in range(n_clips)]
    manifest = pd.DataFrame({"clip_id": ids, "label": [LABELS[i] for i in label_of]})
    split = np.where(np.arange(n_clips) % 5 == 4, "validation", "train")
    splits = pd.DataFrame({"clip_id": ids, "split": split})
    return MemoryFeatures(windows, np.array(ids, dtype=object)[clip_of]), manifest, splits


def make_params(**training: Any) -> Params:
    return parse_params(
        {
            "name": "bands",
            "seed": 3,
            "data": {"layout": "folder"},
            "features": {"name": "logmel"},
            "task": {"name": "classification"},
            "model": {"name": "bcresnet", "width": 1.0},
            "augment": [{"name": "time_shift"}, {"name": "specaugment"}, {"name": "mixup"}],
            "training": {"max_epochs": 6, "batch_size": 8, "warmup_epochs": 1.0, "accelerator": "cpu"} | training,
        }
    )
