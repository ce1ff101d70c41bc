"""Between-class mixing: two clips as people would hear them mixed, with targets of as much of each.

Source: Tokozume, Ushiku and Harada, "Learning from Between-class Examples for Deep Sound Recognition", ICLR 2018
(arXiv 1711.10282), equation 2: the weights make up for the clips' A-weighted levels, and the sum keeps its energy.
"""

from __future__ import annotations

import torch
from torch import Tensor

from audioml.augment._clips import ClipShare, choose_clips
from audioml.augment._level import measure_levels
from audioml.params import Section

MIXES = True


class Params(Section):
    """How much is mixed."""

    share: ClipShare = 1.0
    """Share of clips that are mixed with another one of the batch, at a ratio drawn uniformly from 0 to 1."""


def apply_audio(
    params: Params, audio: Tensor, targets: Tensor, generator: torch.Generator, sample_rate: int
) -> tuple[Tensor, Tensor]:
    """Return mixed audio (n, samples) and mixed soft targets (n, ...)."""
    n = len(audio)
    ratio = torch.ones(n)
    chosen = choose_clips(n, params.share, generator)
    ratio[chosen] = torch.rand(len(chosen), generator=generator)
    partner = torch.randperm(n, generator=generator)
    levels_db = measure_levels(audio, sample_rate)
    weight = _weigh(ratio.to(audio), levels_db - levels_db[partner.to(audio.device)]).unsqueeze(1)
    energy = (weight.square() + (1 - weight).square()).sqrt()
    mixed = (weight * audio + (1 - weight) * audio[partner.to(audio.device)]) / energy
    ratio = ratio.reshape(-1, *[1] * (targets.ndim - 1)).to(targets)
    return mixed, ratio * targets + (1 - ratio) * targets[partner.to(targets.device)]


def _weigh(ratio: Tensor, louder_db: Tensor) -> Tensor:
    """Return p = 1 / (1 + 10^((G1 - G2) / 20) (1 - r) / r), written without a division by zero."""
    return ratio / (ratio + 10 ** (louder_db / 20) * (1 - ratio))
