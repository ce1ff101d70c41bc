from __future__ import annotations

import torch

from audioml.models.mobilenet import InvertedResidual, Params, build


def test_size_with_defaults_is_below_100_000_parameters() -> None:
    model = build(Params(), (40, 101))
    bottlenecks = [(16, 16), (16, 16), (16, 24), (24, 24), (24, 32), (32, 32), (32, 48), (48, 48)]
    # Pointwise, depthwise and pointwise, each with a scale and a shift a channel.
    blocks = sum(4 * i * (i + 2) + 4 * i * (9 + 2) + o * (4 * i + 2) for i, o in bottlenecks)
    expected = 16 * (9 + 2) + blocks + 96 * (48 + 2)
    assert sum(p.numel() for p in model.parameters()) == expected < 100_000


def test_an_inverted_residual_adds_its_input_where_shapes_are_one() -> None:
    x = torch.randn(2, 4, 6, 6)
    for block, identity in ((InvertedResidual(4, 4, 1, 2), True), (InvertedResidual(4, 4, 2, 2), False)):
        torch.nn.init.zeros_(block.layers[-1].weight)
        assert torch.equal(block(x), x if identity else torch.zeros(2, 4, 3, 3))
    assert InvertedResidual(4, 6, 1, 2)(x).shape == (2, 6, 6, 6)


def test_bottlenecks_are_linear() -> None:
    """No activation at a block's end: values below zero come out (section 3.2 of the paper)."""
    assert InvertedResidual(4, 6, 1, 2)(torch.randn(2, 4, 6, 6)).min() < 0
