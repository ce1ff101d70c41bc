"""The greedy draw of groups, against its definition."""

from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from audioml.pipeline.drawing import _fill

from .test_splitting import grouped_manifests


@settings(max_examples=50, deadline=None)
@given(grouped_manifests(), st.floats(0.05, 0.5), st.integers(0, 2**31))
def test_groups_are_taken_while_they_bring_the_labels_nearer(manifest: pd.DataFrame, share: float, seed: int) -> None:
    """The greedy draw against its definition in plain numpy."""
    counts = pd.crosstab(manifest["group"], manifest["label"]).to_numpy()
    target, total = share * counts.sum(axis=0), counts.sum(axis=0)
    order = np.random.default_rng(seed).permutation(len(counts))

    def distance(taken: np.ndarray) -> float:
        return float((((taken - target) / np.maximum(target, 1)) ** 2).sum())

    taken, expected = np.zeros_like(total), []
    for row in order:
        after = taken + counts[row]
        if (after < total).all() and distance(after) < distance(taken):
            taken = after
            expected.append(row)
    possible = [row for row in order if (counts[row] < total).all()]
    if not expected and possible:
        expected = [min(possible, key=lambda row: distance(counts[row]))]
    chosen = _fill(csr_array(counts), target, order)
    assert (None if chosen is None else chosen.tolist()) == (expected or None)
