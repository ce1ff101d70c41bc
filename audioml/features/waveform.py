"""The samples themselves, for models that learn their own filters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audioml.features._window import window_samples
from audioml.params import FeatureParams


class Params(FeatureParams):
    """The keys of `features` with `name: waveform`: those of every feature."""


def feature_shape(params: Params) -> tuple[int, int]:
    """Return (1, samples) of one window of `duration_s`."""
    return 1, window_samples(params)


def extract(params: Params, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32 `(n, 1, samples)`, a view of float32 audio `(n, samples)`."""
    return audio[:, np.newaxis, :]
