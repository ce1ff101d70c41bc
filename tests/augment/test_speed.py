from __future__ import annotations

import numpy as np
import pytest
import torch

from audioml.augment import speed
from audioml.augment._time import change_speed

from ._sounds import RATE, make_noise, make_sines, peak_hz, run


@pytest.mark.parametrize("factor", [0.5, 0.87, 1.0, 1.2, 2.0])
def test_a_sine_moves_by_the_factor(factor: float) -> None:
    sines = make_sines([200, 1000, 3000])
    changed = change_speed(sines, torch.full((3,), factor), RATE)
    assert torch.allclose(peak_hz(changed), torch.tensor([200.0, 1000, 3000]).double() * factor, rtol=1e-3)
    middle = changed[:, RATE // 2 - 1000 : RATE // 2 + 1000]
    assert torch.allclose(middle.square().mean(dim=1), torch.tensor(0.125), rtol=0.03)


def test_factor_one_changes_nothing() -> None:
    audio = make_sines([100, 1000, 6000], 4001)
    assert torch.allclose(change_speed(audio, torch.ones(3), 4001), audio, atol=1e-3)


@pytest.mark.parametrize("factor", [0.937, 1.05])
@pytest.mark.parametrize(("frequency", "error_db"), [(0.05, -90), (0.25, -60), (0.45, -44)])
def test_samples_are_those_of_the_curve_between_them(frequency: float, error_db: float, factor: float) -> None:
    def curve(time: np.ndarray) -> np.ndarray:
        """A tone that swells and ebbs about time 0, its frequency in cycles a sample."""
        envelope = np.where(np.abs(time) < 4000, np.cos(np.pi * time / 8000) ** 4, 0)
        return np.sin(2 * np.pi * frequency * time + 0.3) * envelope

    time = np.arange(8001) - 4000.0
    audio = torch.from_numpy(curve(time)).float().unsqueeze(0)
    got = change_speed(audio, torch.tensor([factor]), 8001)[0].double().numpy()
    want = curve(time * factor)
    assert 10 * np.log10(np.square(got - want).sum() / np.square(want).sum()) < error_db


def test_what_would_fold_is_cut() -> None:
    assert change_speed(make_sines([6000]), torch.tensor([1.5]), RATE)[:, 3000:-3000].abs().max() < 1e-2


def test_the_middle_stays_and_beyond_the_clip_is_silence() -> None:
    clicks = torch.zeros(2, 8001)
    clicks[:, [4000, 5000]] = 1
    changed = change_speed(clicks, torch.tensor([2.0, 0.8]), 8001)
    tops = [sorted(torch.topk(clip.abs(), 2).indices.tolist()) for clip in changed]
    assert tops == [[4000, 4500], [4000, 5250]]
    assert not change_speed(make_noise(1, 8000), torch.tensor([2.0]), 8000)[:, :1990].any()


def test_factors_are_drawn_between_the_bounds() -> None:
    params = speed.Params(min_factor=0.8, max_factor=1.1, share=1)
    factors = peak_hz(run(speed, params, make_sines([1000.0] * 60))) / 1000
    assert 0.8 <= factors.min() < 0.83
    assert 1.07 < factors.max() <= 1.101
