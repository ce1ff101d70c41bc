from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from audioml.models.autoencoder import Params, build
from audioml.training.export import export_onnx
from audioml.training.network import Network


def make_smooth(n: int, bins: int, frames: int) -> torch.Tensor:
    """Return standardised features that their neighbours tell something of."""
    coarse = torch.randn(n, 1, -(-bins // 8), -(-frames // 8), generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.interpolate(coarse, scale_factor=8, mode="bilinear")[:, 0, :bins, :frames]
    return (smooth - smooth.mean()) / smooth.std()


@pytest.mark.parametrize("hidden_share", [0.0, 0.5])
def test_pretraining_restores_features_better_than_their_mean(hidden_share: float) -> None:
    torch.manual_seed(0)
    model = build(Params(hidden_share=hidden_share), (20, 30))
    features = make_smooth(32, 20, 30)
    model.requires_grad_(True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(40):
        optimizer.zero_grad()
        loss = model.pretraining_loss(features)
        loss.backward()
        optimizer.step()
    # 1 is the error of the mean, 0.5 that of what is visible and the mean elsewhere.
    assert loss < (0.2 if hidden_share == 0 else 0.45)


def test_hidden_patches_are_drawn_by_share_and_not_seen() -> None:
    torch.manual_seed(0)
    model = build(Params(hidden_share=0.3), (24, 33))
    visible = model._draw_visible(torch.zeros(400, 24, 33))
    assert visible.unique().tolist() == [0.0, 1.0]
    assert abs(float(visible.mean()) - 0.7) < 0.02
    patch = visible[:, :8, 8:16]
    assert torch.equal(patch, patch[:, :1, :1].expand_as(patch))


@pytest.mark.parametrize("shape", [(40, 101), (13, 33), (1, 1)])
def test_what_is_restored_has_the_shape_of_what_was_given(shape: tuple[int, int]) -> None:
    loss = build(Params(), shape).pretraining_loss(torch.randn(2, *shape))
    assert loss.shape == ()
    assert loss.isfinite()


def test_the_decoder_is_not_exported(tmp_path: Path) -> None:
    model, path = build(Params(), (13, 33)), tmp_path / "model.onnx"
    export_onnx(Network(model, nn.Identity(), 13), [torch.randn(1, 13, 33)], path)
    encoder = sum(p.numel() for p in model.encoder.parameters())
    assert Network(model, nn.Identity(), 13).n_parameters == encoder
    stored = sum(torch.Size(weights.dims).numel() for weights in onnx.load(path).graph.initializer)
    kernels = sum(p.numel() for p in model.encoder.parameters() if p.ndim > 1)
    decoder = sum(p.numel() for p in model.decoder.parameters())
    assert kernels <= stored < kernels + decoder / 4
