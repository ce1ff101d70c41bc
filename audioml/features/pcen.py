"""Per-channel energy normalization: mel power over what each band had of late, then compressed by a root.

What lasts, such as hum, the colour of a microphone, or a level, goes; what changes stays. Source: Wang, Getreuer,
Hughes, Lyon, Saurous, "Trainable Frontend for Robust and Far-Field Keyword Spotting", ICASSP 2017 (arXiv 1607.05666),
section 2: ``(E / (eps + M)^gain + bias)^power - bias^power``, where M is E smoothed over frames by one pole, from its
first frame on. Equal to `librosa.pcen`, whose smoothing starts from another value unless it is told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import scipy.signal
from numpy.typing import NDArray
from pydantic import Field

from audioml.features._batch import extract_batch
from audioml.features._mel import MelParams, log_mel
from audioml.features._window import window_samples
from audioml.units import samples_to_frames

if TYPE_CHECKING:
    from torch import Tensor

FULL_SCALE_POWER = float(1 << 30)
"""Of samples of 16 bits: constants from the paper are for these."""
EPSILON = 1e-6


class Params(MelParams):
    """The keys of `features` with `name: pcen`."""

    time_constant_s: Annotated[float, Field(gt=0)] = 0.4
    """What counts as of late, in seconds."""
    gain: Annotated[float, Field(ge=0, le=1)] = 0.98
    """How far a band's level is taken away; 1 for wholly."""
    bias: Annotated[float, Field(ge=0)] = 2.0
    """Added before the root; what is far below it hardly counts."""
    power: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The root, as an exponent."""
    top_db: Literal[None] = None
    """Levels are normalized otherwise here."""
    subtract_mean: Literal[False] = False
    """Levels are normalized otherwise here."""


def shape_of(params: Params, n_samples: int) -> tuple[int, int]:
    """Return (bins, frames) of a window of `n_samples`."""
    return params.n_mels, samples_to_frames(n_samples, params.hop_length)


def feature_shape(params: Params) -> tuple[int, int]:
    """Return (bins, frames) of one window of `duration_s`."""
    return shape_of(params, window_samples(params))


def smoothing(params: Params) -> float:
    """Return the share of a new frame in the smoothed power, as `librosa.pcen` takes it from the time constant."""
    frames = params.time_constant_s * params.sample_rate / params.hop_length
    return (math.sqrt(1 + 4 * frames**2) - 1) / (2 * frames**2)


def extract_into(params: Params, windows: Sequence[NDArray[np.float32]], out: Sequence[NDArray[np.float32]]) -> None:
    """Write normalized power, float32 `(n_mels, frames)`, of float32 windows `(samples,)`."""
    log_mel(params, windows, out)
    share = smoothing(params)
    for into in out:
        power = FULL_SCALE_POWER * 10.0 ** (into.astype(np.float64) / 10)
        start = (1 - share) * power[:, :1]
        smoothed, _ = scipy.signal.lfilter([share], [1, share - 1], power, zi=start)
        into[:] = (power / (EPSILON + smoothed) ** params.gain + params.bias) ** params.power
        into -= np.float32(params.bias**params.power)


def extract(params: Params, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return normalized power, float32 `(n, n_mels, frames)`, of float32 audio `(n, samples)`."""
    return extract_batch(extract_into, params, shape_of(params, audio.shape[1]), audio)


def extract_torch(params: Params, audio: Tensor) -> Tensor:
    """Return what `extract` does, on the device of `audio`, as equal as `audioml.features` says."""
    import torch

    from audioml.features._torch import log_mel_torch

    power = FULL_SCALE_POWER * 10.0 ** (log_mel_torch(params, audio).double() / 10)
    share, smoothed = smoothing(params), [power[:, :, 0]]
    for frame in range(1, power.shape[2]):
        smoothed.append((1 - share) * smoothed[-1] + share * power[:, :, frame])
    level = (EPSILON + torch.stack(smoothed, dim=2)) ** params.gain
    features: Tensor = (power / level + params.bias) ** params.power - params.bias**params.power
    return features.float()
