from __future__ import annotations

import pytest
import torch

from audioml.errors import ParamsError
from audioml.models.rescnn import Params, build
from audioml.params import parse_section


def test_size_with_defaults_is_below_100_000_parameters() -> None:
    model = build(Params(), (40, 101))
    convolutions = 25 * 16 + 2 * 9 * 16**2 + 9 * 16 * 24 + 2 * 9 * 24**2 + 9 * 24 * 32 + 2 * 9 * 32**2 + 9 * 32 * 48
    norms = 2 * (16 * 3 + 24 * 3 + 32 * 3 + 48)
    assert sum(p.numel() for p in model.parameters()) == convolutions + norms < 100_000


@pytest.mark.parametrize("shape", [(40, 101), (64, 501), (13, 20), (1, 400), (128, 7), (5, 1)])
def test_any_input_shape(shape: tuple[int, int]) -> None:
    model = build(Params(), shape)
    assert model(torch.randn(3, *shape)).shape == (3, model.width, -(-shape[1] // 8))


def test_a_stage_has_a_channel_at_least() -> None:
    with pytest.raises(ParamsError, match=r"model\.channels\.1' is 0"):
        parse_section(Params, {"channels": [16, 0]}, "model")
