from __future__ import annotations

import pytest
import torch

from audioml.augment import noise

from ._sounds import RATE, level_db, make_noise, make_sines, run


def added(kinds: tuple[str, ...], audio: torch.Tensor, **keys: float) -> torch.Tensor:
    return run(noise, noise.Params(kinds=kinds, share=1, **keys), audio) - audio


@pytest.mark.parametrize("kind", ["white", "pink", "brown", "babble"])
@pytest.mark.parametrize("snr_db", [-5.0, 15.0])
def test_the_ratio_is_as_asked(kind: str, snr_db: float) -> None:
    audio = make_sines([100, 300, 900, 2700])
    made = added((kind,), audio, min_snr_db=snr_db, max_snr_db=snr_db)
    assert torch.allclose(level_db(audio) - level_db(made), torch.tensor(snr_db).double(), atol=0.1)


def test_ratios_are_drawn_between_the_bounds() -> None:
    audio = make_noise(300, 500)
    snr_db = level_db(audio) - level_db(added(("white",), audio, min_snr_db=0, max_snr_db=20))
    assert -0.1 < snr_db.min() < 1
    assert 19 < snr_db.max() < 20.1
    assert abs(snr_db.mean() - 10) < 1.2


def test_padding_does_not_lower_the_noise_and_stays_silent() -> None:
    audio = make_noise(2)
    audio[:, : RATE // 2] = 0
    audio[:, -RATE // 4 :] = 1e-7
    made = added(("white",), audio, min_snr_db=10, max_snr_db=10)
    stretch = slice(RATE // 2, -RATE // 4)
    ratio_db = level_db(audio[:, stretch]) - level_db(made[:, stretch])
    assert torch.allclose(ratio_db, torch.tensor(10.0).double(), atol=0.01)
    assert not made[:, : RATE // 2].any()
    assert not made[:, -RATE // 4 :].any()


@pytest.mark.parametrize(("kind", "slope_db"), [("white", 0.0), ("pink", -3.01), ("brown", -6.02)])
def test_power_falls_by_the_colour(kind: str, slope_db: float) -> None:
    made = added((kind,), make_noise(40))
    power = torch.fft.rfft(made.double()).abs().square().mean(dim=0)
    octaves_db = [10 * torch.log10(power[low : 2 * low].mean()) for low in (125, 250, 500, 1000, 2000)]
    slope = float(octaves_db[-1] - octaves_db[0]) / 4
    assert slope == pytest.approx(slope_db, abs=0.3)
    if kind != "white":
        assert float(power[:19].max()) < 1e-6 * float(power[40])


def test_babble_is_of_other_clips() -> None:
    audio = make_sines([200, 500, 1100, 2300])
    made = added(("babble",), audio, babble_clips=2)
    spectrum = torch.fft.rfft(made).abs()[:, [200, 500, 1100, 2300]]
    assert (spectrum.diagonal() < 1e-3 * spectrum.amax(dim=1)).all()


def test_each_clip_draws_its_kind() -> None:
    made = added(("white", "brown"), make_noise(100, 4000))
    high = torch.fft.rfft(made).abs().square()
    is_white = high[:, 1000:].sum(dim=1) > 0.1 * high.sum(dim=1)
    assert 30 < int(is_white.sum()) < 70
