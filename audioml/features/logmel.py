"""Log-mel spectra in dB, as librosa computes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audioml.features._batch import extract_batch
from audioml.features._mel import MelParams, log_mel
from audioml.features._mel import clip_wide as clip_wide
from audioml.features._mel import frame_reach as frame_reach
from audioml.features._window import window_samples
from audioml.units import samples_to_frames

if TYPE_CHECKING:
    from torch import Tensor


class Params(MelParams):
    """The keys of `features` with `name: logmel`."""


def shape_of(params: Params, n_samples: int) -> tuple[int, int]:
    """Return (bins, frames) of a window of `n_samples`."""
    return params.n_mels, samples_to_frames(n_samples, params.hop_length)


def feature_shape(params: Params) -> tuple[int, int]:
    """Return (bins, frames) of one window of `duration_s`."""
    return shape_of(params, window_samples(params))


def extract_into(params: Params, windows: Sequence[NDArray[np.float32]], out: Sequence[NDArray[np.float32]]) -> None:
    """Write log-mel spectra, float32 `(n_mels, frames)` in dB, of float32 windows `(samples,)`."""
    log_mel(params, windows, out)


def extract(params: Params, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return log-mel spectra, float32 `(n, n_mels, frames)` in dB, of float32 audio `(n, samples)`."""
    return extract_batch(extract_into, params, shape_of(params, audio.shape[1]), audio)


def extract_torch(params: Params, audio: Tensor) -> Tensor:
    """Return what `extract` does, on the device of `audio`, as equal as `audioml.features` says."""
    from audioml.features._torch import log_mel_torch

    return log_mel_torch(params, audio)
