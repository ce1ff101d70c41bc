"""Turn waveforms upside down, as a microphone or cable wired the other way does.

Spectra of single clips stay as they are: it is for models of waveforms, and before clips are mixed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from audioml.augment._clips import ClipShare, change_clips, choose_clips
from audioml.params import Section


class Params(Section):
    """How many clips are turned."""

    share: ClipShare = 0.5
    """Share of clips that are changed."""


def apply_audio(
    params: Params, audio: Tensor, targets: Tensor, generator: torch.Generator, sample_rate: int
) -> tuple[Tensor, Tensor]:
    """Return audio (n, samples), the chosen clips times -1; targets stay."""
    chosen = choose_clips(len(audio), params.share, generator)
    return change_clips(audio, chosen, torch.neg), targets
