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
