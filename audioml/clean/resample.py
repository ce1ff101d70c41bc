"""Bring every clip to one rate early, so that the plug-ins after it work on that rate.

Features resample to their own rate in any case; this is for chains whose parts should hear the same band in all
clips, and for those that are cheaper at a lower rate.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from audioml.audio.resample import resample
from audioml.audio.sound import Sound
from audioml.params import Section


class Params(Section):
    """To which rate."""

    sample_rate: Annotated[int, Field(ge=1000, le=192000)] = 16000
    """Target rate in Hz."""


def apply(params: Params, sound: Sound) -> Sound:
    """Return the sound at `params.sample_rate`, by soxr's high quality setting."""
    samples = resample(sound.samples, sound.sample_rate, params.sample_rate)
    return Sound(samples, params.sample_rate, sound.start_s)
