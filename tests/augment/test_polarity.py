from __future__ import annotations

import torch

from audioml.augment import polarity

from ._sounds import make_noise, run


def test_clips_are_turned_upside_down_whole() -> None:
    audio = make_noise(50, 100)
    changed = run(polarity, polarity.Params(), audio)
    turned = changed[:, 0] != audio[:, 0]
    assert 10 < int(turned.sum()) < 40
    assert torch.equal(changed, torch.where(turned.unsqueeze(1), -audio, audio))
