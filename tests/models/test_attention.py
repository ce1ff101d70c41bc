from __future__ import annotations

import math

import pytest
import torch

from audioml.errors import ParamsError
from audioml.models._attention import positions
from audioml.models.attention import Params, build
from audioml.params import parse_section


@pytest.mark.parametrize(
    ("shape", "grid"), [((40, 101), (5, 13)), ((13, 33), (2, 5)), ((1, 1), (1, 1)), ((16, 8), (2, 1))]
)
def test_there_is_a_patch_for_every_eight_bins_and_frames(shape: tuple[int, int], grid: tuple[int, int]) -> None:
    model = build(Params(), shape)
    assert model.bin_positions.shape[0] == grid[0]
    assert model.patches(torch.randn(2, 1, *shape)).shape == (2, model.width, *grid)


@pytest.mark.parametrize("dimension", [1, 2])
def test_it_matters_where_a_patch_is(dimension: int) -> None:
    """Without positions, attention and the mean would not see that patches change places."""
    model = build(Params(), (32, 32)).eval()
    with torch.no_grad():
        model.bin_positions.normal_()
        # Each patch sees its own 8 x 8 only.
        model.patches = torch.nn.Conv2d(1, model.width, 8, stride=8)
        x = 3 * torch.randn(1, 32, 32)
        means = [model(features).mean(dim=2) for features in (x, x.roll(8, dimension))]
    assert (means[0] - means[1]).abs().max() > 1e-2


def test_positions_are_sines_and_cosines() -> None:
    found = positions(torch.zeros(1, 7, 4))
    expected = [[math.sin(t), math.sin(t / 100), math.cos(t), math.cos(t / 100)] for t in range(7)]
    assert torch.allclose(found, torch.tensor(expected))


@pytest.mark.parametrize("width", [30, 33])
def test_a_width_that_heads_do_not_divide_is_refused(width: int) -> None:
    with pytest.raises(ParamsError, match=rf"{width} channels do not make 4 heads; take a multiple of 4"):
        parse_section(Params, {"width": width}, "model")
