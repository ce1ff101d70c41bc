"""What training does for tasks that answer along time, or whose metric is no ratio of sums over clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from audioml.params import parse_params
from audioml.tasks import detection
from audioml.training.data import encode_along_time, select_windows
from audioml.training.fit import fit
from audioml.training.tracker import MemoryTracker

from ._synthetic import BINS, MemoryFeatures, make_data, make_params

FRAME_S = 0.01


@dataclass
class TimedFeatures(MemoryFeatures):
    """Clips of two windows that overlap by half."""

    @property
    def offsets_s(self) -> np.ndarray:
        return np.array([i % 2 * window.shape[1] * FRAME_S / 2 for i, window in enumerate(self.windows)])


def make_clips(n_clips: int, frames: tuple[int, ...] = (40,)) -> tuple[MemoryFeatures, pd.DataFrame, pd.DataFrame]:
    """Clips in which one half of the bins is loud for a third of their time, and so labelled."""
    rng = np.random.default_rng(0)
    windows, ids, labels = [], [], []
    for clip in range(n_clips):
        n = frames[clip % len(frames)]
        whole = rng.normal(-40.0, 4.0, (BINS, n * 3 // 2)).astype(np.float32)
        onset, rows = int(rng.integers(0, n)), slice(0, 6) if clip % 2 else slice(6, 12)
        whole[rows, onset : onset + n // 2] += 12.0
        windows += [whole[:, :n], whole[:, -n:]]
        ids += [f"clip{clip:03d}"] * 2
        stop = min(onset + n // 2, whole.shape[1])
        labels.append(f"{onset * FRAME_S:.2f}-{stop * FRAME_S:.2f} {'low' if clip % 2 else 'high'}")
    manifest = pd.DataFrame({"clip_id": ids[::2], "path": ids[::2], "label": labels})
    splits = pd.DataFrame({"clip_id": ids[::2], "split": ["train", "train", "validation"] * (n_clips // 3)})
    shape = (BINS, frames[0]) if len(frames) == 1 else (BINS, None)
    return TimedFeatures(windows, np.array(ids, dtype=object), shape), manifest, splits


def test_windows_of_a_clip_have_targets_of_their_own() -> None:
    features, manifest, _ = make_clips(3)
    manifest["label"] = ["0.1-0.3 low", "0-0.1 high; 0.45-0.6 low", "(none)"]
    params = detection.Params(step_s=0.1)
    targets = detection.fit_targets(params, manifest)
    truth = detection.truth(targets, manifest)
    windows = select_windows(features, manifest["clip_id"].tolist(), np.zeros((3, 2)), truth)
    along = encode_along_time(windows, detection, params, targets, FRAME_S)
    encoded = along.targets_of(np.array([3, 0, 5]))
    # Labels are high and low; the second clip's second window starts at 0.2 s.
    np.testing.assert_allclose(encoded[0], [[0, 0, 0, 0], [0, 0, 0.5, 1]], atol=1e-5)
    np.testing.assert_allclose(encoded[1], [[0, 0, 0, 0], [0, 1, 1, 0]], atol=1e-5)
    assert not encoded[2].any()


@pytest.mark.parametrize("frames", [(40,), (40, 60)], ids=["one length", "own lengths"])
def test_detection_learns_from_windows_and_is_judged_on_clips(tmp_path: Path, frames: tuple[int, ...]) -> None:
    features, manifest, splits = make_clips(48, frames)
    params = make_params({"sample_rate": 16000, "hop_length": 160}, max_epochs=8)
    raw = params.model_dump(by_alias=True)
    raw["task"] = {"name": "detection", "collar_s": 0.1, "step_s": 0.01, "min_duration_s": 0.05}
    raw["model"] = {"name": "rescnn", "channels": [8]}
    raw["augment"] = [{"name": "time_shift"}]
    tracker = MemoryTracker()
    result = fit(parse_params(raw), features, manifest, splits, tmp_path, tracker)
    assert result.targets["labels"] == ["high", "low"]
    assert result.best["val_event_f1"] > 0.6


def test_a_metric_of_all_clips_is_measured_in_validation(tmp_path: Path) -> None:
    features, manifest, splits = make_data(40, windows_per_clip=2)
    manifest["label"] = [f"{label};{'odd' if i % 2 else 'even'}" for i, label in enumerate(manifest["label"])]
    raw = make_params(max_epochs=2).model_dump(by_alias=True) | {"task": {"name": "tagging"}}
    result = fit(parse_params(raw), features, manifest, splits, tmp_path, MemoryTracker())
    assert result.targets["labels"] == ["even", "high", "low", "middle", "odd"]
    assert all(0 < row["val_map"] <= 1 for row in result.history)
