"""One decision tree on clip statistics.

Source: Breiman, Friedman, Olshen, Stone, "Classification and Regression Trees", 1984. The weakest of these models, and
the only one whose decisions a person can follow.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from audioml.models._statistics import Batches, State, StatisticsParams, fit_statistics
from audioml.models._trees import Trees, flatten_trees, round_statistics


class Params(StatisticsParams):
    """How far the tree grows."""

    max_depth: Annotated[int, Field(ge=1, le=64)] = 12
    """Levels, at most."""
    min_leaf_windows: Annotated[int, Field(ge=1)] = 3
    """Training windows in a leaf, at least; their labels are its probabilities."""


def fit(params: Params, batches: Batches, n_labels: int, seed: int) -> State:
    """Return the nodes of the tree; see `flatten_trees`."""
    from sklearn.tree import DecisionTreeClassifier

    statistics, labels, state = fit_statistics(params, batches)
    tree = DecisionTreeClassifier(
        max_depth=params.max_depth, min_samples_leaf=params.min_leaf_windows, random_state=seed
    ).fit(round_statistics(statistics), labels)
    return state | flatten_trees([tree.tree_])


def build_fitted(params: Params, state: dict[str, Tensor]) -> nn.Module:
    """Return the module that maps float32 (n, bins, frames) to log-probabilities (n, labels)."""
    return Trees(params, state)
