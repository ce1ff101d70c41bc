from __future__ import annotations

import pytest
import torch

from audioml.models.bcresnet import DilatedDepthwise, Params, SubSpectralNorm, build

# Parameters of BC-ResNet-1 to -8 with 12 classes, table 2 of the paper, in thousands.
PUBLISHED_THOUSANDS = {1: 9.2, 2: 27.3, 3: 54.2, 6: 188, 8: 321}


@pytest.mark.parametrize("width", PUBLISHED_THOUSANDS)
def test_size_is_that_of_the_paper(width: float) -> None:
    model = build(Params(width=width), (40, 101))
    with_head = sum(p.numel() for p in model.parameters()) + model.width * 12
    assert with_head / 1000 == pytest.approx(PUBLISHED_THOUSANDS[width], rel=0.03)


@pytest.mark.parametrize("shape", [(40, 101), (64, 501), (60, 32), (13, 20), (1, 400), (128, 7), (5, 1)])
@pytest.mark.parametrize("time_stride", [1, 2, 3])
def test_any_input_shape(shape: tuple[int, int], time_stride: int) -> None:
    model = build(Params(width=1, time_stride=time_stride), shape)
    outputs = model(torch.randn(3, *shape))
    assert outputs.shape == (3, model.width, -(-shape[1] // time_stride))


def test_subspectral_norm_normalises_each_band_apart() -> None:
    x = torch.randn(16, 3, 10, 20) * torch.arange(1, 11.0)[:, None] + torch.arange(10.0)[:, None]
    y = SubSpectralNorm(3, 5)(x).reshape(16, 3, 5, 2, 20)
    assert torch.allclose(y.mean(dim=(0, 3, 4)), torch.zeros(3, 5), atol=1e-5)
    assert torch.allclose(y.var(dim=(0, 3, 4), unbiased=False), torch.ones(3, 5), atol=1e-3)


@pytest.mark.parametrize("dilation", [1, 2, 8])
@pytest.mark.parametrize("frames", [1, 5, 40])
def test_dilated_depthwise_is_torchs_convolution(dilation: int, frames: int) -> None:
    layer = DilatedDepthwise(6, dilation)
    x = torch.randn(3, 6, frames)
    expected = torch.nn.functional.conv1d(x, layer.weight, padding=dilation, dilation=dilation, groups=6)
    assert torch.allclose(layer(x), expected, atol=1e-6)
