from __future__ import annotations

import numpy as np
import pytest
import torch

from audioml.models._probabilities import fit_factor, to_log_probabilities


def test_what_is_impossible_has_a_finite_logarithm() -> None:
    logarithms = to_log_probabilities(torch.tensor([[0.0, 0.25, 0.75]]))
    assert logarithms[0].tolist() == pytest.approx([np.log(1e-6), np.log(0.25), np.log(0.75)])


def test_the_factor_makes_scores_as_sure_as_they_are_right() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (4000, 3)).astype(np.float32)
    labels = np.array([generator.choice(3, p=np.exp(row) / np.exp(row).sum()) for row in logits.astype(np.float64)])
    for unit in (1.0, 50.0):
        scores = torch.from_numpy(logits) / unit
        assert fit_factor(lambda factor, scores=scores: factor * scores, labels) == pytest.approx(unit, rel=0.1)


def test_scores_that_are_always_right_give_a_finite_factor() -> None:
    scores = torch.eye(3)[torch.arange(30) % 3]
    factor = fit_factor(lambda factor: factor * scores, np.arange(30) % 3)
    surest = np.exp(factor) / (np.exp(factor) + 2)
    # Each label was seen ten times, and counts as seen once more than that, with each of the labels.
    assert surest == pytest.approx(31 / 33, abs=0.01)
