"""Features of a batch of windows of one length, by a kernel that takes any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from audioml.params import FeatureParams

P_contra = TypeVar("P_contra", bound=FeatureParams, contravariant=True)


class Kernel(Protocol[P_contra]):
    """A plug-in's `extract_into`."""

    def __call__(
        self, params: P_contra, windows: Sequence[NDArray[np.float32]], out: Sequence[NDArray[np.float32]], /
    ) -> None:
        """Write the features of each window into its array."""


def extract_batch(
    kernel: Kernel[P_contra], params: P_contra, shape: tuple[int, int], audio: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the features of windows of one length, float32 `(n, *shape)`, of float32 audio `(n, samples)`."""
    features = np.empty((len(audio), *shape), np.float32)
    kernel(params, list(audio), list(features))
    return features
