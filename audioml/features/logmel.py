"""Log-mel spectra in dB, as librosa computes them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audioml.features._mel import MelParams, log_mel
from audioml.features._window import window_samples
from audioml.units import samples_to_frames


class Params(MelParams):
    """The keys of `features` with `name: logmel`."""


def feature_shape(params: Params) -> tuple[int, int]:
    """Return (bins, frames) of one window of `duration_s`."""
    return params.n_mels, samples_to_frames(window_samples(params), params.hop_length)


def extract(params: Params, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log-mel spectra, float32 `(n, n_mels, frames)` in dB, of float32 audio `(n, samples)`."""
    return log_mel(params, audio)
