from __future__ import annotations

import torch

from audioml.augment.specaugment import Params, apply


def run(params: Params, n: int = 100, bins: int = 20, frames: int = 50, seed: int = 0):
    features = torch.randn(n, bins, frames, generator=torch.Generator().manual_seed(9))
    masked, targets = apply(params, features, torch.eye(n), torch.Generator().manual_seed(seed))
    assert torch.equal(targets, torch.eye(n))
    return features, masked


def test_covers_whole_bins_and_frames_with_the_clips_mean() -> None:
    features, masked = run(Params(bin_masks=1, max_bins_share=0.25, frame_masks=1, max_frames_share=0.1))
    bins_covered, frames_covered = set(), set()
    for before, after in zip(features, masked, strict=True):
        changed = before != after
        assert torch.allclose(after[changed], before.mean().expand(int(changed.sum())))
        bins, frames = changed.all(dim=1), changed.all(dim=0)
        assert torch.equal(changed, bins[:, None] | frames[None, :])
        for covered, seen in ((bins, bins_covered), (frames, frames_covered)):
            where = covered.nonzero().flatten()
            assert len(where) == 0 or int(where[-1] - where[0]) + 1 == len(where)
            seen.add(len(where))
    assert bins_covered == set(range(6))
    assert frames_covered == set(range(6))


def test_masks_reach_both_ends() -> None:
    features, masked = run(Params(bin_masks=1, max_bins_share=0.2, frame_masks=0), n=400)
    covered = (features != masked).all(dim=2)
    assert covered[:, 0].any()
    assert covered[:, -1].any()


def test_no_masks_change_nothing() -> None:
    features, masked = run(Params(bin_masks=0, frame_masks=0))
    assert torch.equal(features, masked)


def test_same_generator_state_same_result() -> None:
    assert torch.equal(run(Params(), seed=4)[1], run(Params(), seed=4)[1])
    assert not torch.equal(run(Params(), seed=4)[1], run(Params(), seed=5)[1])
