from __future__ import annotations

import pytest
import torch

from audioml.augment import pitch

from ._sounds import RATE, make_sines, peak_hz, run


@pytest.mark.parametrize("semitones", [-12.0, -3.0, 0.0, 2.5, 7.0])
def test_a_sine_moves_by_the_semitones(semitones: float) -> None:
    sines = make_sines([220, 440, 1000, 2500])
    params = pitch.Params(min_semitones=semitones, max_semitones=semitones, share=1)
    changed = run(pitch, params, sines)[:, RATE // 4 : -RATE // 4]
    moved = 12 * torch.log2(peak_hz(changed) / torch.tensor([220.0, 440, 1000, 2500]).double())
    assert torch.allclose(moved, torch.tensor(semitones).double(), atol=0.05)


@pytest.mark.parametrize("semitones", [-4.0, 4.0])
def test_the_tempo_stays(semitones: float) -> None:
    clip = torch.zeros(1, RATE + 1)
    places = torch.tensor([3000, 8000, 13000])
    for place in places:
        clip[0, place - 200 : place + 200] = make_sines([1000], 400)
    params = pitch.Params(min_semitones=semitones, max_semitones=semitones, share=1)
    power = run(pitch, params, clip)[0].square()
    for place in places:
        around = slice(int(place) - 2000, int(place) + 2000)
        middle = float((power[around] * torch.arange(4000)).sum() / power[around].sum()) - 2000
        assert abs(middle) < 0.011 * RATE


def test_shifts_are_drawn_between_the_bounds() -> None:
    changed = run(pitch, pitch.Params(min_semitones=-1, max_semitones=3, share=1), make_sines([500.0] * 40))
    moved = 12 * torch.log2(peak_hz(changed[:, RATE // 4 : -RATE // 4]) / 500)
    assert -1.05 < moved.min() < -0.6
    assert 2.6 < moved.max() < 3.05
