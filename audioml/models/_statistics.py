"""Clip statistics: one vector of fixed length for a window of any, and what models on them share.

The statistics are torch operations, used for fitting and exported with the model, so that both see the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from audioml.models._probabilities import to_log_probabilities
from audioml.params import Section

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]
Batches = Iterable[tuple[Floats, Indices]]
"""Training windows of equal length together, and their labels: float32 (n, bins, frames), int64 (n,). The same in
each iteration."""
State = dict[str, NDArray[Any]]
"""All that was fitted."""

MIN_SCALE = 1e-3
"""Statistics that never change are not blown up by standardisation."""

log = logging.getLogger(__name__)


class StatisticsParams(Section):
    """How a clip is described; the params of each model on clip statistics have this key too."""

    parts: Annotated[int, Field(ge=1)] = 1
    """Parts of equal length that a window is cut into, each with its own statistics: with more than one, it counts
    what comes first."""


class StatisticsModel(nn.Module):
    """A decision function of clip statistics. What was fitted are its buffers, under the names of the state."""

    mean: Tensor
    scale: Tensor

    def __init__(self, params: StatisticsParams, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.parts = params.parts
        for name, value in state.items():
            self.register_buffer(name, value)

    def forward(self, features: Tensor) -> Tensor:
        """Map float32 (n, bins, frames) to log-probabilities (n, labels)."""
        statistics = (clip_statistics(features, self.parts) - self.mean) / self.scale
        return to_log_probabilities(self.decide(statistics))

    def decide(self, statistics: Tensor) -> Tensor:
        """Map standardised statistics (n, d) to probabilities (n, labels)."""
        raise NotImplementedError


def clip_statistics(features: Tensor, parts: int) -> Tensor:
    """Return mean, standard deviation, minimum, maximum and mean absolute change of each bin in each part.

    Parameters
    ----------
    features
        float32 (n, bins, frames), one frame at least.
    parts
        Parts of equal length; they share a frame where the frames cannot be divided.

    Returns
    -------
    Tensor
        float32 (n, parts × 5 × bins).
    """
    frames = features.shape[2]
    before = torch.cat([features[:, :, :1], features[:, :, :-1]], dim=2)
    changes = (features - before).abs()
    statistics = []
    for part in range(parts):
        start, stop = frames * part // parts, (frames * (part + 1) + parts - 1) // parts
        here = features[:, :, start:stop]
        mean = here.mean(dim=2)
        # Not quite zero, where the root has no gradient.
        std = (here - mean.unsqueeze(2)).square().mean(dim=2).clamp(min=1e-12).sqrt()
        statistics += [mean, std, here.amin(dim=2), here.amax(dim=2), changes[:, :, start:stop].mean(dim=2)]
    return torch.cat(statistics, dim=1)


def fit_statistics(params: StatisticsParams, batches: Batches) -> tuple[Floats, Indices, State]:
    """Return the standardised statistics of all windows (n, d), their labels (n,), and `mean` and `scale` (d,)."""
    measured = [(clip_statistics(torch.from_numpy(features), params.parts), labels) for features, labels in batches]
    statistics = torch.cat([values for values, _ in measured]).numpy()
    mean = statistics.mean(axis=0, dtype=np.float64).astype(np.float32)
    scale = np.maximum(statistics.std(axis=0, dtype=np.float64), MIN_SCALE).astype(np.float32)
    labels = np.concatenate([labels for _, labels in measured])
    return (statistics - mean) / scale, labels, {"mean": mean, "scale": scale}


def draw_windows(labels: Indices, at_most: int, seed: int) -> Indices:
    """Return the positions of about `at_most` windows, an equal share of each label's and one at least, in order."""
    if len(labels) <= at_most:
        return np.arange(len(labels))
    log.warning("%d of %d windows are kept, drawn at random (model.max_windows).", at_most, len(labels))
    generator, share = np.random.default_rng(seed), at_most / len(labels)
    drawn = []
    for label in np.unique(labels):
        positions = np.flatnonzero(labels == label)
        drawn.append(generator.permutation(positions)[: max(1, round(share * len(positions)))])
    return np.sort(np.concatenate(drawn))
