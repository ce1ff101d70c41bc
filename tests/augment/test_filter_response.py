from __future__ import annotations

import torch

from audioml.augment import filter_response
from audioml.augment.filter_response import make_responses

from ._sounds import RATE, level_db, make_sines, run


def test_gains_stay_within_the_bounds_and_use_them() -> None:
    audio = make_sines([60, 200, 700, 2000, 5000, 7500] * 20)
    params = filter_response.Params(max_db=9, share=1)
    inner = slice(1000, -1000)
    change_db = (level_db(run(filter_response, params, audio)[:, inner]) - level_db(audio[:, inner])).reshape(20, 6)
    assert change_db.abs().max() < 9.2
    assert change_db.max() > 6
    assert change_db.min() < -6
    assert change_db.std(dim=0).min() > 2


def test_a_curve_goes_through_its_points_without_overshoot() -> None:
    gains_db = torch.tensor([[-6.0, 6.0, 0.0]])
    response = 20 * torch.log10(make_responses(gains_db, RATE, RATE))[0]
    middle_hz = round((50 * 8000) ** 0.5)
    assert torch.allclose(response[[0, 50, middle_hz, 8000]], torch.tensor([-6.0, -6.0, 6.0, 0.0]), atol=0.01)
    assert (response[50 : middle_hz + 1].diff() >= -1e-4).all()
    assert (response[middle_hz:].diff() <= 1e-4).all()


def test_nothing_is_delayed() -> None:
    click = torch.zeros(8, RATE)
    click[:, RATE // 2] = 1
    assert (run(filter_response, filter_response.Params(share=1), click).argmax(dim=1) == RATE // 2).all()
