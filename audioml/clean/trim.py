"""Cut what is quiet before the first and after the last loud part. Frames are those of librosa's ``effects.trim``."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import Field

from audioml.audio.sound import Sound
from audioml.params import Section
from audioml.units import samples_to_seconds, seconds_to_samples

HOPS = 4
"""A frame is this many hops long."""


class Params(Section):
    """What counts as quiet, and how much of it stays."""

    threshold_db: Annotated[float, Field(gt=0)] = 40.0
    """A frame is quiet when its power is at least this many dB under that of the clip's loudest frame."""
    keep_s: Annotated[float, Field(ge=0)] = 0.05
    """Seconds that stay before the first and after the last loud frame, as far as the clip has them."""
    frame_s: Annotated[float, Field(gt=0)] = 0.064
    """Length of a frame in seconds; frames are a quarter of it apart and centred."""


def apply(params: Params, sound: Sound) -> Sound:
    """Return the part from the first to the last loud frame; a clip without any sound stays as it is."""
    samples, sample_rate = sound.samples, sound.sample_rate
    hop = max(1, seconds_to_samples(params.frame_s / HOPS, sample_rate))
    energy = _frame_energy(samples, hop)
    peak = energy.max(initial=0.0)
    if peak == 0:
        return sound
    loud = np.flatnonzero(energy > peak * 10 ** (-params.threshold_db / 10))
    keep = seconds_to_samples(params.keep_s, sample_rate)
    start = max(0, int(loud[0]) * hop - keep)
    end = min(samples.size, (int(loud[-1]) + 1) * hop + keep)
    return Sound(samples[start:end], sample_rate, sound.start_s + samples_to_seconds(start, sample_rate))


def _frame_energy(samples: npt.NDArray[np.float32], hop: int) -> npt.NDArray[np.float64]:
    """Return the sum of squares of each frame: frame i is centred on sample ``i * hop``, zeros are outside."""
    n_hops = samples.size // hop + HOPS
    padded = np.zeros(n_hops * hop, np.float32)
    first = HOPS // 2 * hop
    padded[first : first + samples.size] = samples
    hops = padded.reshape(n_hops, hop)
    by_hop: npt.NDArray[np.float64] = np.einsum("nh,nh->n", hops, hops).astype(np.float64)
    return by_hop[:-3] + by_hop[1:-2] + by_hop[2:-1] + by_hop[3:]
