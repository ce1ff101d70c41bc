"""A random forest on clip statistics.

Source: Breiman, "Random Forests", Machine Learning 45, 2001: trees on bootstrap samples that choose among a few
statistics at each split; probabilities are means over trees, as scikit-learn has them.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from audioml.models._statistics import Batches, State, StatisticsParams, fit_statistics
from audioml.models._trees import Trees, flatten_trees, round_statistics


class Params(StatisticsParams):
    """How many trees there are, and how far they grow."""

    trees: Annotated[int, Field(ge=1)] = 200
    max_depth: Annotated[int, Field(ge=1, le=64)] = 20
    """Levels of a tree, at most."""
    max_leaves: Annotated[int, Field(ge=2)] = 1000
    """Of a tree, at most; bounds the size of the model on large corpora."""


def fit(params: Params, batches: Batches, n_labels: int, seed: int) -> State:
    """Return the nodes of all trees; see `flatten_trees`."""
    from sklearn.ensemble import RandomForestClassifier

    statistics, labels, state = fit_statistics(params, batches)
    forest = RandomForestClassifier(
        params.trees, max_depth=params.max_depth, max_leaf_nodes=params.max_leaves, random_state=seed
    ).fit(round_statistics(statistics), labels)
    return state | flatten_trees([tree.tree_ for tree in forest.estimators_])


def build_fitted(params: Params, state: dict[str, Tensor]) -> nn.Module:
    """Return the module that maps float32 (n, bins, frames) to log-probabilities (n, labels)."""
    return Trees(params, state)
