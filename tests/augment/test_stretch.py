from __future__ import annotations

import pytest
import torch

from audioml.augment import stretch
from audioml.augment._time import stretch_time

from ._sounds import RATE, make_noise, make_sines, peak_hz, run

RATES = [0.6, 0.8, 1.0, 1.25, 1.7]


def find_clicks(audio: torch.Tensor) -> list[int]:
    """The loudest sample of each click."""
    size = audio.abs()
    places = torch.nonzero(size > 0.3).flatten().tolist()
    groups: list[list[int]] = []
    for place in places:
        if groups and place - groups[-1][-1] < 400:
            groups[-1].append(place)
        else:
            groups.append([place])
    return [max(group, key=lambda place: float(size[place])) for group in groups]


@pytest.mark.parametrize("rate", RATES)
def test_a_sine_keeps_its_pitch_and_level(rate: float) -> None:
    sines = make_sines([150, 440, 1000, 3000])
    changed = stretch_time(sines, torch.full((4,), rate), RATE, RATE)
    middle = changed[:, RATE // 4 : -RATE // 4]
    assert torch.allclose(peak_hz(middle), torch.tensor([150.0, 440, 1000, 3000]).double(), rtol=2e-3)
    assert torch.allclose(middle.square().mean(dim=1), torch.tensor(0.125), rtol=0.1)


@pytest.mark.parametrize("rate", RATES)
def test_clicks_come_in_the_tempo_each_once(rate: float) -> None:
    clip = torch.zeros(1, 2 * RATE + 1)
    before = torch.arange(-4, 5) * 1600 + RATE
    clip[0, before] = 1.0
    found = torch.tensor(find_clicks(stretch_time(clip, torch.tensor([rate]), 2 * RATE + 1, RATE)[0]))
    expected = RATE + (before - RATE) / rate
    expected = expected[(expected > 0) & (expected < 2 * RATE)]
    assert len(found) == len(expected)
    # A frame may be moved by 10 ms, and within it time goes on as it did, for 20 ms to either side.
    assert (found - expected).abs().max() <= (0.0101 + 0.02 * abs(1 / rate - 1)) * RATE


def test_rate_one_changes_nothing() -> None:
    audio = make_noise(3, 8001)
    assert torch.allclose(stretch_time(audio, torch.ones(3), 8001, RATE), audio, atol=1e-6)


def test_silence_around_a_sound_does_not_move_it() -> None:
    clip = torch.zeros(1, RATE + 1)
    clip[0, 6000:10001] = make_noise(1, 4001)
    changed = stretch_time(clip, torch.tensor([1.25]), RATE + 1, RATE)[0]
    sounding = torch.nonzero(changed).flatten()
    assert abs(int(sounding[0]) - 6400) <= 330
    assert abs(int(sounding[-1]) - 9600) <= 330


def test_rates_are_drawn_between_the_bounds() -> None:
    clip = torch.zeros(40, RATE + 1)
    clip[:, [4000, 12000]] = 1
    changed = run(stretch, stretch.Params(min_rate=0.8, max_rate=1.6, share=1), clip)
    apart = torch.tensor([find_clicks(one)[-1] - find_clicks(one)[0] for one in changed])
    rates = 8000 / apart
    assert 0.77 < rates.min() < 0.9
    assert 1.45 < rates.max() < 1.7
