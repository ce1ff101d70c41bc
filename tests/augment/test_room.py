from __future__ import annotations

import numpy as np
import pytest
import torch

from audioml.audio.rooms import SPEED_OF_SOUND, Room, draw_room, room_response
from audioml.augment import room

from ._sounds import RATE, make_noise, run

HALL = Room((7.1, 5.3, 3.2), (2.0, 3.9, 1.4), (5.2, 1.7, 1.6), rt60_s=0.4)


def measure_rt60(response: np.ndarray) -> float:
    """Time of decay by 60 dB, from the energy still to come (Schroeder 1965) between -5 and -25 dB."""
    energy_db = 10 * np.log10(np.cumsum(response[::-1].astype(np.float64) ** 2)[::-1] / np.sum(response**2.0))
    first, last = (int(np.argmax(energy_db < level)) for level in (-5, -25))
    return 3 * (last - first) / RATE


def test_the_direct_sound_comes_after_its_way_with_its_pressure() -> None:
    distance_m = float(np.linalg.norm(np.subtract(HALL.source_m, HALL.microphone_m)))
    response = room_response(HALL, RATE)
    delay = distance_m / SPEED_OF_SOUND * RATE
    assert np.flatnonzero(response)[0] == int(delay)
    # Shared by the two samples beside it; the filter against very low frequencies takes a little.
    assert response[int(delay) : int(delay) + 2].sum() == pytest.approx(1 / distance_m, rel=0.03)


def test_the_first_reflection_is_that_of_the_nearest_wall() -> None:
    # Microphone and source 1 m above the floor, 4 m apart, in a large and high room.
    flat = Room((40.0, 30.0, 20.0), (18.0, 15.0, 1.0), (22.0, 15.0, 1.0), rt60_s=0.3)
    response = room_response(flat, RATE)
    direct, reflected = (int(d / SPEED_OF_SOUND * RATE) for d in (4.0, (4.0**2 + 2.0**2) ** 0.5))
    after = np.abs(response[direct + 3 : direct + 200])
    assert direct + 3 + int(after.argmax()) in (reflected, reflected + 1)
    assert after.max() < flat.reflection * 1.05 / 20**0.5


@pytest.mark.parametrize("rt60_s", [0.2, 0.4, 0.8])
def test_the_decay_is_as_asked(rt60_s: float) -> None:
    generator = np.random.default_rng(0)
    measured = [
        measure_rt60(room_response(draw_room(generator, (4, 7), (rt60_s, rt60_s)), RATE))
        for _ in range(2 if rt60_s > 0.5 else 6)
    ]
    assert np.median(measured) == pytest.approx(rt60_s, rel=0.25)


def test_reflections_follow_sabine_where_walls_absorb_little() -> None:
    live = Room((6.0, 5.0, 3.0), (1.0, 1.0, 1.0), (4.0, 3.0, 1.5), rt60_s=4.0)
    volume, surface = 90.0, 126.0
    absorption = 1 - live.reflection**2
    assert 0.161 * volume / (surface * absorption) == pytest.approx(4.0, rel=0.02)


def test_positions_keep_off_the_walls() -> None:
    generator = np.random.default_rng(1)
    for drawn in (draw_room(generator, (1.5, 9), (0.1, 0.3)) for _ in range(200)):
        for place in (drawn.source_m, drawn.microphone_m):
            assert all(0.5 <= x <= side - 0.5 for x, side in zip(place, drawn.size_m, strict=True))


def test_clips_ring_on_and_keep_place_and_energy() -> None:
    clip = torch.zeros(20, RATE)
    clip[:, 4000:5000] = make_noise(20, 1000)
    params = room.Params(rooms=8, min_rt60_s=0.3, share=1)
    wet = run(room, params, clip)
    assert torch.allclose(wet.square().sum(dim=1), clip.square().sum(dim=1), rtol=1e-3)
    assert wet[:, :3990].abs().max() < 1e-4
    assert (wet[:, 5000:8000].square().sum(dim=1) > 0).all()
    tail_db = 10 * torch.log10(wet[:, 5500:6500].square().mean() / wet[:, 4000:5000].square().mean())
    assert -40 < float(tail_db) < -3


def test_the_bank_is_made_once_and_follows_from_its_seed() -> None:
    params = room.Params(rooms=3, max_rt60_s=0.2)
    assert room.make_bank(params, RATE) is room.make_bank(room.Params(rooms=3, max_rt60_s=0.2), RATE)
    again = room.make_bank.__wrapped__(params, RATE)
    assert torch.equal(again, room.make_bank(params, RATE))
    other = room.make_bank(params.model_copy(update={"rooms_seed": 1}), RATE)
    assert other.shape != again.shape or not torch.equal(other, again)
