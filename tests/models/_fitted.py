"""Windows of labels that differ in which bins rise, and what the models on them are compared by."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from audioml.models._statistics import clip_statistics

BINS, FRAMES = 6, 20


def make_batches(
    n: int = 60, n_labels: int = 3, frames: tuple[int, ...] = (FRAMES,), seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return a batch for each number of frames."""
    generator = np.random.default_rng(seed)
    batches = []
    for n_frames in frames:
        labels = np.arange(n) % n_labels
        features = generator.normal(-40.0, 4.0, (n, BINS, n_frames)).astype(np.float32)
        for window, label in zip(features, labels, strict=True):
            window[label::n_labels] += np.linspace(0, 6, n_frames)
        batches.append((features, labels.astype(np.int64)))
    return batches


def fit_model(plugin: ModuleType, params: Any, batches: Any, n_labels: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    return plugin.fit(params, batches, n_labels, seed)


def build_model(plugin: ModuleType, params: Any, state: dict[str, np.ndarray]) -> nn.Module:
    return plugin.build_fitted(params, {name: torch.from_numpy(np.asarray(v)) for name, v in state.items()}).eval()


def predict(model: nn.Module, features: np.ndarray) -> np.ndarray:
    """Return probabilities."""
    with torch.no_grad():
        return model(torch.from_numpy(features)).exp().numpy()


def standardised(state: dict[str, np.ndarray], features: np.ndarray, parts: int) -> np.ndarray:
    """Return clip statistics as a model of this state sees them."""
    return (clip_statistics(torch.from_numpy(features), parts).numpy() - state["mean"]) / state["scale"]
