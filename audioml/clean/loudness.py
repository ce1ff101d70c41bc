"""Bring each clip to one loudness, measured as broadcasters do (ITU-R BS.1770-4)."""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from audioml.audio.loudness import measure_loudness
from audioml.audio.sound import Sound
from audioml.params import Section
from audioml.units import dbfs_to_amplitude


class Params(Section):
    """Which loudness, and what must not be exceeded."""

    target_lufs: Annotated[float, Field(ge=-70, le=0)] = -23.0
    """Integrated loudness after the gain; -23 is EBU R 128's. Clips below -70 LUFS count as silence and stay."""
    max_peak_dbfs: Annotated[float, Field(le=0)] | None = -1.0
    """The gain is lowered until no sample exceeds this; None lets it clip."""


def apply(params: Params, sound: Sound) -> Sound:
    """Return the sound times one gain."""
    loudness_lufs = measure_loudness(sound.samples, sound.sample_rate)
    if loudness_lufs == -math.inf:
        return sound
    gain = dbfs_to_amplitude(params.target_lufs - loudness_lufs)
    if params.max_peak_dbfs is not None:
        peak = max(float(sound.samples.max()), -float(sound.samples.min()))
        gain = min(gain, dbfs_to_amplitude(params.max_peak_dbfs) / peak)
    return Sound(sound.samples * np.float32(gain), sound.sample_rate, sound.start_s)
