from __future__ import annotations

import torch

from audioml.augment.time_shift import Params, apply


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_moves_frames_together_and_repeats_the_edge() -> None:
    ramp = torch.arange(20.0).expand(200, 3, 20)
    shifted, targets = apply(Params(max_shift_share=0.2), ramp, torch.eye(200), generator())
    shifts = set()
    for clip in shifted:
        assert (clip == clip[0]).all()
        shift = next(s for s in range(-4, 5) if torch.equal(clip[0], (torch.arange(20.0) - s).clamp(0, 19)))
        shifts.add(shift)
    assert shifts == set(range(-4, 5))
    assert torch.equal(targets, torch.eye(200))


def test_zero_share_changes_nothing() -> None:
    features = torch.randn(5, 4, 9)
    assert torch.equal(apply(Params(max_shift_share=0), features, torch.zeros(5, 2), generator())[0], features)


def test_same_generator_state_same_result() -> None:
    features = torch.randn(8, 4, 50)
    one, _ = apply(Params(), features, torch.zeros(8, 2), generator(3))
    other, _ = apply(Params(), features, torch.zeros(8, 2), generator(3))
    assert torch.equal(one, other)


def test_targets_along_time_are_shifted_with_the_features():
    features = torch.zeros(40, 3, 60)
    features[:, :, 24:30] = 1.0
    targets = torch.zeros(40, 2, 20)
    targets[:, 0, 8:10] = 1.0
    shifted, moved = apply(Params(max_shift_share=0.3), features, targets, torch.Generator().manual_seed(0))
    assert torch.equal(moved.sum(dim=2), targets.sum(dim=2))
    # A step is three frames: the middles agree within half a step.
    middle = (shifted[:, 0] * torch.arange(60)).sum(dim=1) / 6 + 0.5
    expected = ((moved[:, 0] * torch.arange(20)).sum(dim=1) / 2 + 0.5) * 3
    assert (middle - expected).abs().max() <= 1.5
