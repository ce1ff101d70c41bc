"""Decision trees of scikit-learn as flat arrays, descended by look-ups, all trees at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioml.models._statistics import Floats, Indices, State, StatisticsModel, StatisticsParams

DECIMALS = 2
"""Trees are grown on statistics rounded to hundredths of a standard deviation: a threshold then lies between values
that differ, and not within the rounding of float32, where another machine may decide otherwise."""


def round_statistics(statistics: Floats) -> Floats:
    """Return standardised statistics as trees are grown on them."""
    rounded: Floats = np.round(statistics, DECIMALS)
    return rounded


def flatten_trees(trees: Sequence[Any]) -> State:
    """Return the nodes of `sklearn.tree._tree.Tree` objects in flat arrays.

    Returns
    -------
    State
        `roots` int64 (trees,) and, of each node: `left`, `right` (a leaf is its own child), `feature` int64 (nodes,),
        `threshold` float32 (nodes,), `probabilities` float32 (nodes, labels); `depth` int64 (), of the deepest tree.
    """
    sizes = [tree.node_count for tree in trees]
    roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
    left = np.concatenate([_children(tree.children_left) + root for tree, root in zip(trees, roots, strict=True)])
    right = np.concatenate([_children(tree.children_right) + root for tree, root in zip(trees, roots, strict=True)])
    values = np.concatenate([tree.value[:, 0] for tree in trees])
    return {
        "roots": roots,
        "left": left,
        "right": right,
        "feature": np.maximum(np.concatenate([tree.feature for tree in trees]), 0).astype(np.int64),
        "threshold": _round_down(np.concatenate([tree.threshold for tree in trees])),
        "probabilities": (values / values.sum(axis=1, keepdims=True)).astype(np.float32),
        "depth": np.array(max(tree.max_depth for tree in trees), dtype=np.int64),
    }


class Trees(StatisticsModel):
    """The mean over trees of the probabilities at the leaf that a window's statistics lead to."""

    roots: Tensor
    left: Tensor
    right: Tensor
    feature: Tensor
    threshold: Tensor
    probabilities: Tensor

    def __init__(self, params: StatisticsParams, state: dict[str, Tensor]) -> None:
        super().__init__(params, state)
        self.levels = int(state["depth"])

    def decide(self, statistics: Tensor) -> Tensor:
        """Map (n, d) to (n, labels); each level of all trees is one step."""
        node = self.roots.unsqueeze(0).expand(statistics.shape[0], -1)
        for _ in range(self.levels):
            goes_left = statistics.gather(1, self.feature[node]) <= self.threshold[node]
            node = torch.where(goes_left, self.left[node], self.right[node])
        return self.probabilities[node].mean(dim=1)


def _children(nodes: Indices) -> Indices:
    """Return the children of each node; a leaf, which scikit-learn gives none (-1), is its own."""
    return np.where(nodes < 0, np.arange(len(nodes)), nodes).astype(np.int64)


def _round_down(thresholds: NDArray[np.float64]) -> Floats:
    """Return the largest float32 that is not above each threshold: float32 statistics compare as with the original."""
    nearest = thresholds.astype(np.float32)
    return np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest).astype(np.float32)
