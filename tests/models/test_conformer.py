from __future__ import annotations

import torch

from audioml.models.conformer import Block, Params, build


def test_a_frame_is_a_quarter_rounded_up() -> None:
    model = build(Params(), (13, 33))
    assert model(torch.randn(2, 13, 33)).shape == (2, 64, 9)


def test_each_frame_sees_all_others() -> None:
    """Farther than the convolutions reach."""
    model = build(Params(layers=1, kernel=3), (8, 200)).eval()
    x = torch.randn(1, 8, 200, requires_grad=True)
    model(x)[0, :, 0].square().sum().backward()
    assert x.grad is not None
    assert x.grad[0, :, -4:].abs().max() > 0


def test_a_block_adds_to_what_it_takes() -> None:
    """With the last layer of each part silenced, only the normalisation at the end is left."""
    block = Block(Params(width=8, heads=2)).eval()
    for layer in (
        block.first_half[4],
        block.second_half[4],
        block.attention.attention.out_proj,
        block.convolution.layers[5],
    ):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        assert torch.allclose(block(x), torch.nn.functional.layer_norm(x, (8,)), atol=1e-6)


def test_kernels_may_be_even() -> None:
    assert Block(Params(kernel=4))(torch.randn(2, 7, 64)).shape == (2, 7, 64)
