from __future__ import annotations

import numpy as np
import scipy.stats
import torch

from audioml.augment.mixup import Params, apply


def mix(params: Params, n: int, seed: int = 0):
    # Clip i is i everywhere, its target one-hot i: weights can be read off.
    features = torch.eye(n).unsqueeze(2).expand(n, n, 4)
    return apply(params, features, torch.eye(n), torch.Generator().manual_seed(seed))


def test_features_and_targets_are_mixed_alike_and_weights_sum_to_one() -> None:
    features, targets = mix(Params(alpha=0.4, share=1.0), 64)
    assert torch.allclose(features[:, :, 0], targets)
    assert torch.allclose(targets.sum(dim=1), torch.ones(64))
    assert (targets.diagonal() >= 0.5 - 1e-6).all()


def test_weights_follow_the_beta_distribution() -> None:
    _, targets = mix(Params(alpha=0.5, share=1.0), 2000)
    weights = targets.diagonal().numpy()
    weights = weights[weights < 1 - 1e-6]
    folded = scipy.stats.beta(0.5, 0.5)
    # The larger of w and 1 - w has the distribution function F(x) - F(1 - x).
    assert scipy.stats.kstest(weights, lambda x: folded.cdf(x) - folded.cdf(1 - x)).pvalue > 0.001


def test_share_of_clips_stays() -> None:
    _, targets = mix(Params(alpha=1.0, share=0.25), 2000)
    mixed = float((targets.diagonal() < 1).float().mean())
    assert abs(mixed - 0.25) < 0.04


def test_same_generator_state_same_result() -> None:
    assert torch.equal(mix(Params(), 32, 1)[0], mix(Params(), 32, 1)[0])
    assert not np.array_equal(mix(Params(), 32, 1)[1], mix(Params(), 32, 2)[1])
