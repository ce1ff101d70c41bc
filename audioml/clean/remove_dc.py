"""Subtract the clip's mean."""

from __future__ import annotations

import numpy as np

from audioml.audio.sound import Sound
from audioml.params import Section


class Params(Section):
    """No keys."""


def apply(params: Params, sound: Sound) -> Sound:
    """Return the sound without its mean, which is summed in double precision."""
    samples = sound.samples
    if samples.size == 0:
        return sound
    mean = np.add.reduce(samples, dtype=np.float64) / samples.size
    return Sound(samples - np.float32(mean), sound.sample_rate, sound.start_s)
