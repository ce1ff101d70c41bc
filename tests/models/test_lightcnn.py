from __future__ import annotations

import torch

from audioml.models.lightcnn import MaxFeatureMap, Params, build


def test_size_with_defaults() -> None:
    model = build(Params(), (40, 101))
    stages = [(1, 16, 25), (16, 16, 1), (16, 24, 9), (24, 24, 1), (24, 32, 9), (32, 32, 1), (32, 64, 9)]
    # Twice the outputs, each with a scale and a shift.
    expected = sum(2 * outputs * (inputs * kernel + 2) for inputs, outputs, kernel in stages)
    assert sum(p.numel() for p in model.parameters()) == expected < 100_000


def test_max_feature_map_keeps_the_larger_of_each_pair() -> None:
    layer = MaxFeatureMap(1, 2, kernel=1).eval()
    with torch.no_grad():
        layer.convolution.weight[:, 0, 0, 0] = torch.tensor([1.0, 3.0, -1.0, 2.0])
        x = torch.tensor([2.0, -5.0]).reshape(1, 1, 1, 2)
        # Channels 0 and 2 are partners, 1 and 3 as well.
        expected = torch.tensor([[2.0, 5.0], [6.0, -10.0]])
        assert torch.allclose(layer(x)[0, :, 0], expected, rtol=1e-4)


def test_stages_halve_the_frames_rounded_up() -> None:
    model = build(Params(channels=(4, 6, 8)), (40, 101))
    assert model(torch.randn(1, 40, 101)).shape[2] == 13
