"""Features of audio that is still coming in: the frames that are certain, as soon as they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from audioml.errors import DecodeError
from audioml.inference.extraction import NOT_FINITE, Extractor

Floats = NDArray[np.float32]


class FeatureStream:
    """Makes of samples that come in parts the frames that `Extractor` makes of the whole.

    A frame is made as soon as all samples that it depends on have come, and of what has been used no more is held than
    later frames need. Each call costs the transform of a few frames that are made again, as they stand at the edges.

    Parameters
    ----------
    extractor
        Of features that have `frame_reach`, and set so that no frame depends on all of its clip.
    hop_length
        Samples from one frame to the next.
    """

    def __init__(self, extractor: Extractor, hop_length: int) -> None:
        self.n_frames = 0
        """Frames that were returned so far."""
        self._plugin, self._params = extractor.plugin, extractor.params
        self._reach: int = self._plugin.frame_reach(self._params)
        self._hop = hop_length
        self._held = np.empty(0, np.float32)
        self._first_frame = 0
        """That whose centre is the first sample held."""

    def feed(self, samples: Floats) -> Floats:
        """Return the frames that are certain after these samples, float32 (samples,): float32 (bins, frames).

        Raises
        ------
        DecodeError
            When they are not finite.
        """
        self._held = np.concatenate([self._held, samples])
        return self._make(self._count_frames() - self._reach)

    def finish(self) -> Floats:
        """Return the frames that are left when no sample comes any more. Raises as `feed`, or when none ever came."""
        if not len(self._held) and not self.n_frames:
            raise DecodeError("empty", "the stream ended before its first sample")
        return self._make(self._count_frames())

    def _count_frames(self) -> int:
        """Return the frames of all samples that have come, as if no more would."""
        n_samples = self._first_frame * self._hop + len(self._held)
        n_frames: int = self._plugin.shape_of(self._params, n_samples)[1]
        return n_frames

    def _make(self, stop: int) -> Floats:
        """Return the frames that were not returned yet before frame `stop`."""
        first, stop = self.n_frames, max(self.n_frames, stop)
        bins: int = self._plugin.shape_of(self._params, 1)[0]
        if first == stop:
            return np.empty((bins, 0), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            made: Floats = self._plugin.extract(self._params, self._held[np.newaxis])[0]
        features = made[:, first - self._first_frame : stop - self._first_frame]
        if not np.isfinite(features).all():
            raise DecodeError("not_finite", NOT_FINITE)
        self.n_frames = stop
        kept = max(0, stop - self._reach)
        self._held = self._held[(kept - self._first_frame) * self._hop :]
        self._first_frame = kept
        return features
