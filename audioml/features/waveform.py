"""The samples themselves, for models that learn their own filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from audioml.features._window import window_samples
from audioml.params import FeatureParams

if TYPE_CHECKING:
    from torch import Tensor


IS_AUDIO = True
"""The features are the samples: they are never stored twice."""


class Params(FeatureParams):
    """The keys of `features` with `name: waveform`: those of every feature."""


def shape_of(params: Params, n_samples: int) -> tuple[int, int]:
    """Return (1, samples) of a window of `n_samples`."""
    return 1, n_samples


def feature_shape(params: Params) -> tuple[int, int]:
    """Return (1, samples) of one window of `duration_s`."""
    return shape_of(params, window_samples(params))


def frame_reach(params: Params) -> int:
    """Return 0: a frame is a sample."""
    return 0


def clip_wide(params: Params) -> list[str]:
    """Return no key: a sample depends on no other."""
    return []


def extract_into(params: Params, windows: Sequence[NDArray[np.float32]], out: Sequence[NDArray[np.float32]]) -> None:
    """Copy float32 windows `(samples,)` into float32 `(1, samples)`."""
    for samples, into in zip(windows, out, strict=True):
        into[0] = samples


def extract(params: Params, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return float32 `(n, 1, samples)`, a view of float32 audio `(n, samples)`."""
    return audio[:, np.newaxis, :]


def extract_torch(params: Params, audio: Tensor) -> Tensor:
    """Return what `extract` does, a view of `audio`."""
    return audio[:, None, :]
