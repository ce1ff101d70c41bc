"""The nearest training windows by clip statistics vote, nearer ones more.

Source: Cover and Hart, "Nearest neighbor pattern classification", IEEE Transactions on Information Theory 13, 1967;
weights by distance: Dudani, "The distance-weighted k-nearest-neighbor rule", IEEE Transactions on Systems, Man, and
Cybernetics 6, 1976, here 1 / (1 + distance), which is finite for a window that was seen in training.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from audioml.models._statistics import (
    Batches,
    State,
    StatisticsModel,
    StatisticsParams,
    draw_windows,
    fit_statistics,
)


class Params(StatisticsParams):
    """Who votes."""

    neighbours: Annotated[int, Field(ge=1)] = 5
    max_windows: Annotated[int, Field(ge=1)] = 10_000
    """The model holds this many training windows, at most, drawn at random from more."""


def fit(params: Params, batches: Batches, n_labels: int, seed: int) -> State:
    """Return the statistics that are compared with, `known` float32 (windows, d), and `votes` (windows, labels)."""
    statistics, labels, state = fit_statistics(params, batches)
    drawn = draw_windows(labels, params.max_windows, seed)
    votes = torch.nn.functional.one_hot(torch.from_numpy(labels[drawn]), n_labels).float().numpy()
    return state | {"known": statistics[drawn], "votes": votes}


def build_fitted(params: Params, state: dict[str, Tensor]) -> nn.Module:
    """Return the module that maps float32 (n, bins, frames) to log-probabilities (n, labels)."""
    return NearestNeighbours(params, state)


class NearestNeighbours(StatisticsModel):
    """The weighted share of each label among the nearest windows."""

    known: Tensor
    votes: Tensor

    def __init__(self, params: Params, state: dict[str, Tensor]) -> None:
        super().__init__(params, state)
        self.neighbours = min(params.neighbours, len(state["known"]))

    def decide(self, statistics: Tensor) -> Tensor:
        """Map (n, d) to (n, labels)."""
        # The squared distance less what is the same for all; good enough to find the nearest, not to weigh them.
        farness = self.known.square().sum(dim=1) - 2 * statistics @ self.known.T
        nearest = farness.topk(self.neighbours, dim=1, largest=False).indices
        distance = (statistics.unsqueeze(1) - self.known[nearest]).square().sum(dim=2).clamp(min=1e-12).sqrt()
        weights = (1 / (1 + distance)).unsqueeze(2)
        return (weights * self.votes[nearest]).sum(dim=1) / weights.sum(dim=1)
