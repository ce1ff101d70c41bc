"""Cut off the beginning and the end of what sounds, as a recorder does that starts late or stops early.

Fricatives and stops at the edges of words are the first to go where recordings were cut by their level.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from audioml.augment._clips import ClipShare, change_clips, choose_clips, draw_uniform, find_extent
from audioml.params import Section

FADE_S = 0.005
CutShare = Annotated[float, Field(ge=0, lt=0.5)]


class Params(Section):
    """How much is cut off."""

    max_start_share: CutShare = 0.2
    """Of what sounds, the most that is cut off at its start; each clip draws its own, uniformly."""
    max_end_share: CutShare = 0.2
    """The most that is cut off at its end."""
    share: ClipShare = 0.5
    """Share of clips that are changed."""


def apply_audio(
    params: Params, audio: Tensor, targets: Tensor, generator: torch.Generator, sample_rate: int
) -> tuple[Tensor, Tensor]:
    """Return audio (n, samples), the chosen clips with silence for what is cut off; targets (n, labels) stay.

    Targets along time, (n, labels, steps), are 0 where nothing sounds any more.
    """
    n, n_samples = audio.shape
    chosen = choose_clips(n, params.share, generator)
    cuts = [draw_uniform(len(chosen), 0, most, generator) for most in (params.max_start_share, params.max_end_share)]
    start, stop = (bound.cpu() for bound in find_extent(audio[chosen.to(audio.device)]))
    length = stop - start
    first = start + (cuts[0] * length).long()
    last = stop - (cuts[1] * length).long()
    position = torch.arange(n_samples)
    inside = torch.minimum(position - first.unsqueeze(1) + 1, last.unsqueeze(1) - position)
    level = (inside / max(1, round(FADE_S * sample_rate))).clamp(0, 1)
    if targets.ndim == 3:
        targets = targets.clone()
        step = (torch.arange(targets.shape[2]) + 0.5) * n_samples / targets.shape[2]
        heard = (step >= first.unsqueeze(1)) & (step < last.unsqueeze(1))
        at = chosen.to(targets.device)
        targets[at] = targets[at] * heard.unsqueeze(1).to(targets)
    return change_clips(audio, chosen, lambda clips: clips * level.to(clips)), targets
