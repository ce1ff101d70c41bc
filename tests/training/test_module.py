from __future__ import annotations

import pytest

from audioml.training.module import learning_rate_share
from audioml.training.seeds import derive_seed


def test_learning_rate_rises_linearly_then_falls_as_half_a_cosine() -> None:
    shares = [learning_rate_share(step, 10, 110) for step in range(110)]
    assert shares[:10] == pytest.approx([0.1 * k for k in range(1, 11)])
    assert shares[10] == pytest.approx(1.0)
    assert shares[60] == pytest.approx(0.5, abs=1e-3)
    assert shares[10:] == sorted(shares[10:], reverse=True)
    assert 0 < shares[-1] < 0.01


def test_learning_rate_without_warmup_starts_at_the_peak() -> None:
    assert learning_rate_share(0, 0, 5) == pytest.approx(1.0)


def test_seeds_differ_by_purpose_and_fit_torch() -> None:
    seeds = {derive_seed(s, p, e) for s in range(3) for p in ("augment", "dropout") for e in range(3)}
    assert len(seeds) == 18
    assert all(0 <= seed < 2**63 for seed in seeds)
