"""What tests of all networks share."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from audioml.plugins import load_plugin, plugin_names

NETWORKS = [name for name in plugin_names("models") if hasattr(load_plugin("models", name), "build")]
WAVEFORM = {"rawcnn"}
"""Networks that take samples, one bin."""
LABELS = 3


def build(name: str, shape: tuple[int, int], **params: object) -> nn.Module:
    """Return a network with weights that are the same each time, its defaults but for `params`."""
    torch.manual_seed(0)
    plugin = load_plugin("models", name)
    network: nn.Module = plugin.build(plugin.Params(**params), shape)
    return network


def with_head(model: nn.Module) -> nn.Module:
    """Return the model with a classification's head."""
    return nn.Sequential(model, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(model.width, LABELS))


def make_tones(name: str, n: int) -> tuple[Tensor, Tensor]:
    """Return features of noisy sounds that differ by pitch, tones for `WAVEFORM` and bands for others, and labels."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % LABELS
    if name in WAVEFORM:
        phases = 2 * math.pi * torch.rand(n, 1, 1, generator=generator)
        tones = torch.sin(phases + 0.2 * (labels[:, None, None] + 1) * torch.arange(1000.0))
        return tones + 0.3 * torch.randn(n, 1, 1000, generator=generator), labels
    features = torch.randn(n, 16, 24, generator=generator)
    for label in range(LABELS):
        features[labels == label, 5 * label : 5 * label + 5] += 1.0
    return features, labels
