"""What is kept of a recording so that drift can be told later: its condition, and where it lies among features."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioml.audio.condition import Condition, measure_condition

Floats = NDArray[np.float32]

MAX_BANDS = 64
"""Bins of the features are averaged into so many bands at most: a row of the log stays small."""


@dataclass(frozen=True, eq=False)
class Measures:
    """Of one recording."""

    condition: Condition
    embedding: Floats
    """As `embed_features` makes it."""

    def values(self) -> dict[str, Any]:
        """Return them by name, as the columns of `audioml.inference.reference.MEASURE_TYPES`."""
        return {**asdict(self.condition), "embedding": self.embedding}


def measure(audio: Floats, sample_rate: int, features: Floats) -> Measures:
    """Measure a recording.

    Parameters
    ----------
    audio
        Decoded, float32 ``(channels, samples)``, at least one sample.
    sample_rate
        In Hz.
    features
        Of its windows, ``(windows, bins, frames)``, as the network sees them.
    """
    return Measures(measure_condition(audio, sample_rate), embed_features(features))


def embed_features(features: Floats) -> Floats:
    """Return mean and standard deviation over time of each band of the features, ``(2 * bands,)``.

    That is statistics pooling (Snyder et al., ICASSP 2018, section 2.1) of what goes into the network, so that any
    model has it, whatever its task.
    """
    bins = features.shape[1]
    edges = np.linspace(0, bins, min(bins, MAX_BANDS) + 1).astype(np.int64)
    sizes = np.diff(edges) * len(features) * features.shape[2]
    sums = np.add.reduceat(features.sum(axis=(0, 2), dtype=np.float64), edges[:-1])
    squares = np.add.reduceat(np.einsum("nbf,nbf->b", features, features, dtype=np.float64), edges[:-1])
    means = sums / sizes
    deviations = np.sqrt(np.maximum(squares / sizes - means**2, 0.0))
    embedding: Floats = np.concatenate([means, deviations]).astype(np.float32)
    return embedding
