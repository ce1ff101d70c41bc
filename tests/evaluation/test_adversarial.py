from __future__ import annotations

import pytest
import torch

from audioml.evaluation.adversarial import attack_audio

WEIGHTS = torch.linspace(-1, 1, 400)


def loss_of(audio: torch.Tensor) -> torch.Tensor:
    """Falls with the projection on `WEIGHTS`: the best attack within bounds is known."""
    return torch.nn.functional.softplus(-(audio @ WEIGHTS)).sum()


def rms(x: torch.Tensor) -> torch.Tensor:
    return x.square().mean(dim=1).sqrt()


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
@pytest.mark.parametrize("snr_db", [10.0, 30.0])
def test_the_noise_is_as_loud_as_stated_and_as_bad_as_can_be(attack: str, snr_db: float) -> None:
    audio = torch.randn(3, 400, generator=torch.Generator().manual_seed(0)) * torch.tensor([[0.01], [0.1], [1.0]])
    found = attack_audio(loss_of, audio, snr_db, attack, generator=torch.Generator().manual_seed(1))
    best = audio - rms(audio)[:, None] * 10 ** (-snr_db / 20) * WEIGHTS.sign()
    torch.testing.assert_close(found, best)
    torch.testing.assert_close(20 * torch.log10(rms(audio) / rms(found - audio)), torch.full((3,), snr_db))
    assert loss_of(found) > loss_of(audio)


def test_silence_stays_silent() -> None:
    assert not attack_audio(loss_of, torch.zeros(1, 400), 20.0, "pgd").any()


def test_a_loss_without_slope_changes_nothing() -> None:
    audio = torch.ones(1, 400)
    torch.testing.assert_close(attack_audio(lambda x: (0 * x).sum(), audio, 20.0, "fgsm"), audio)
