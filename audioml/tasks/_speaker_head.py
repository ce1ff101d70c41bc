"""The head of the task speaker; apart from it, as it needs torch when it is imported."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

MIN_VARIANCE = 1e-5


class SpeakerHead(nn.Module):
    """Mean and deviation over frames, an embedding of length 1, and its cosine to a direction for each speaker."""

    def __init__(self, width: int, embedding: int, n_speakers: int) -> None:
        super().__init__()
        self.embed = nn.Sequential(
            nn.BatchNorm1d(2 * width), nn.Linear(2 * width, embedding), nn.BatchNorm1d(embedding)
        )
        self.directions = nn.Parameter(torch.empty(n_speakers, embedding))
        nn.init.xavier_uniform_(self.directions)

    def forward(self, maps: Tensor) -> Tensor:
        """Map (n, width, frames) to (n, embedding + speakers)."""
        mean = maps.mean(dim=2)
        deviation = (maps.square().mean(dim=2) - mean.square()).clamp(min=MIN_VARIANCE).sqrt()
        embedding = normalize(self.embed(torch.cat([mean, deviation], dim=1)), dim=1)
        return torch.cat([embedding, embedding @ normalize(self.directions, dim=1).T], dim=1)
