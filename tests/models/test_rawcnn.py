from __future__ import annotations

import pytest
import torch

from audioml.errors import ParamsError
from audioml.models.rawcnn import Params, build


@pytest.mark.parametrize(("samples", "frames"), [(16000, 63), (8000, 32), (1, 1), (257, 2)])
def test_frames_are_a_256th_of_the_samples_rounded_up(samples: int, frames: int) -> None:
    model = build(Params(), (1, samples))
    assert model(torch.randn(2, 1, samples)).shape == (2, model.width, frames)


def test_features_with_bins_are_refused() -> None:
    with pytest.raises(ParamsError, match=r"'rawcnn' reads samples, but the features have 40 bins.*waveform"):
        build(Params(), (40, 101))
