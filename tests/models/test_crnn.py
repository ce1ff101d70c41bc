from __future__ import annotations

import pytest
import torch

from audioml.models.crnn import Params, build


@pytest.mark.parametrize(("time_pooling", "frames"), [(1, 33), (2, 17), (4, 9)])
def test_frames_are_pooled_once(time_pooling: int, frames: int) -> None:
    model = build(Params(time_pooling=time_pooling), (13, 33))
    assert model(torch.randn(2, 13, 33)).shape == (2, model.width, frames)


def test_what_comes_first_and_what_comes_last_are_told_apart() -> None:
    """The same frames in reverse: the mean over frames of convolutions alone would hardly differ."""
    model = build(Params(bidirectional=False, channels=(4,), hidden=4), (8, 30)).eval()
    x = torch.zeros(1, 8, 30)
    x[:, :, :5] = 3.0
    with torch.no_grad():
        last = model(x)[:, :, -1], model(x.flip(2))[:, :, -1]
    assert not torch.allclose(*last, atol=1e-2)
