from __future__ import annotations

import torch

from audioml.augment import gain

from ._sounds import level_db, make_noise, run


def test_levels_change_by_gains_drawn_between_the_bounds() -> None:
    audio = make_noise(400, 200)
    change_db = level_db(run(gain, gain.Params(min_db=-20, max_db=5), audio)) - level_db(audio)
    assert -20 <= change_db.min() < -19
    assert 4 < change_db.max() <= 5
    assert abs(change_db.mean() + 7.5) < 1


def test_one_gain_is_that_gain() -> None:
    audio = make_noise(2)
    assert torch.allclose(run(gain, gain.Params(min_db=20, max_db=20), audio), 10 * audio)
