from __future__ import annotations

import pytest
import torch

from audioml.augment import between_class
from audioml.augment._level import a_weighting, measure_levels

from ._sounds import RATE, make_sines


def mix(audio: torch.Tensor, seed: int = 0, share: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return between_class.apply_audio(between_class.Params(share=share), audio, torch.eye(len(audio)), generator, RATE)


def test_the_weighting_is_that_of_the_standard() -> None:
    # IEC 61672-1, table 3: tenths of a dB, by tenths of a decade.
    table = {15: -39.4, 21: -16.1, 27: -3.2, 30: 0.0, 33: 1.2, 39: -1.1}
    got = 20 * torch.log10(a_weighting(10 ** (torch.tensor(list(table)) / 10)))
    assert torch.allclose(got, torch.tensor(list(table.values())), atol=0.06)


def test_the_level_is_of_the_loudest_tenth_of_a_second() -> None:
    sine = make_sines([1000, 1000])
    sine[1, RATE // 5 :] = 0
    # A sine of amplitude 0.5 is 9.03 dB under full scale.
    assert torch.allclose(measure_levels(sine, RATE), torch.tensor(-9.03), atol=0.05)


def test_targets_say_how_loud_each_is_heard() -> None:
    # Far apart in level: without the levels, the quiet ones would not be heard at all.
    amplitudes = torch.tensor([1.0, 0.01, 0.3, 0.05])
    frequencies = [1000, 1500, 2000, 3000]
    audio = make_sines(frequencies) * amplitudes.unsqueeze(1)
    mixed, targets = mix(audio)
    heard = torch.fft.rfft(mixed).abs()[:, frequencies]
    heard *= a_weighting(torch.tensor(frequencies).float())
    share = heard / heard.sum(dim=1, keepdim=True)
    assert torch.allclose(targets.sum(dim=1), torch.ones(4))
    assert torch.allclose(share, targets, atol=0.02)
    assert ((targets > 0.02).sum(dim=1) > 1).any()


def test_the_sum_of_two_alike_keeps_its_energy() -> None:
    audio = torch.randn(200, 4000, generator=torch.Generator().manual_seed(1))
    mixed, _ = mix(audio)
    assert float(mixed.square().mean()) == pytest.approx(1.0, abs=0.02)


def test_ratios_are_even_and_other_clips_stay() -> None:
    audio = torch.randn(2000, 20, generator=torch.Generator().manual_seed(2))
    _, targets = mix(audio)
    counts = torch.histc(targets.diagonal(), 5, 0, 1)
    assert (counts > 330).all()
    mixed, targets = mix(audio, share=0.25)
    stayed = targets.diagonal() == 1
    assert 0.7 < float(stayed.float().mean()) < 0.8
    assert torch.equal(mixed[stayed], audio[stayed])
