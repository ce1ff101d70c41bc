"""Raise high frequencies by a first difference, as speech front ends do: y[t] = x[t] - coefficient · x[t-1]."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from audioml.audio.sound import Sound
from audioml.params import Section


class Params(Section):
    """How much."""

    coefficient: Annotated[float, Field(ge=0, le=1)] = 0.97
    """Share of the sample before that is subtracted; 0 changes nothing."""


def apply(params: Params, sound: Sound) -> Sound:
    """Return the difference; before the first sample there is silence (``zi=[0]`` in librosa's preemphasis)."""
    samples = sound.samples
    emphasised = samples.copy()
    emphasised[1:] -= np.float32(params.coefficient) * samples[:-1]
    return Sound(emphasised, sound.sample_rate, sound.start_s)
