from __future__ import annotations

import pytest
import torch

from audioml.augment import crop
from audioml.errors import ParamsError
from audioml.params import parse_section

from ._sounds import RATE, make_noise, run


def spans(audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """First and last sample of each clip that is not zero."""
    sounds = (audio != 0).int()
    return sounds.argmax(dim=1), audio.shape[1] - sounds.flip(1).argmax(dim=1)


def test_shares_of_what_sounds_are_cut_off() -> None:
    audio = make_noise(400)
    audio[:, : RATE // 4] = 0
    audio[:, -RATE // 4 :] = 0
    changed = run(crop, crop.Params(max_start_share=0.1, max_end_share=0.4, share=1), audio)
    start, stop = (
        (bound - edge) / (RATE / 2) for bound, edge in zip(spans(changed), (RATE // 4, RATE * 3 // 4), strict=True)
    )
    assert start.min() < 0.01
    assert 0.08 < start.max() <= 0.101
    assert stop.max() > -0.01
    assert -0.401 <= stop.min() < -0.35
    inner = slice(RATE // 2, RATE * 9 // 20 + RATE // 16)
    assert torch.equal(changed[:, inner], audio[:, inner])


def test_edges_fade() -> None:
    changed = run(crop, crop.Params(max_start_share=0.4, share=1), torch.ones(20, RATE))
    assert changed.diff(dim=1).abs().max() <= 1 / round(0.005 * RATE) + 1e-6


def test_targets_along_time_end_with_the_sound() -> None:
    audio, targets = make_noise(30), torch.ones(30, 2, 100)
    params = crop.Params(max_start_share=0.4, max_end_share=0.4, share=1)
    changed, said = crop.apply_audio(params, audio, targets, torch.Generator().manual_seed(0), RATE)
    sounding = (changed.reshape(30, 100, -1) != 0).float().mean(dim=2) > 0.5
    assert ((said[:, 0] > 0) != sounding).sum(dim=1).max() <= 2
    assert torch.equal(said[:, 0], said[:, 1])
    assert targets.all()


def test_a_cut_of_half_is_refused() -> None:
    with pytest.raises(ParamsError, match="max_end_share"):
        parse_section(crop.Params, {"max_end_share": 0.5}, "augment.0")
