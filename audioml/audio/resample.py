"""Change of sample rate."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import soxr


def resample(audio: npt.NDArray[np.float32], from_rate: int, to_rate: int) -> npt.NDArray[np.float32]:
    """Resample mono audio with soxr's high quality setting.

    Parameters
    ----------
    audio
        float32 ``(samples,)``.
    from_rate, to_rate
        In Hz. Equal rates return the array itself.

    Returns
    -------
    float32 ``(samples',)``.
    """
    if from_rate == to_rate or audio.size == 0:
        return audio
    resampled: npt.NDArray[np.float32] = soxr.resample(audio, from_rate, to_rate, quality="HQ")
    return resampled


class StreamResampler:
    """Resamples mono audio that comes in parts, to the same samples as `resample` of the whole.

    Parameters
    ----------
    from_rate, to_rate
        In Hz.
    """

    def __init__(self, from_rate: int, to_rate: int) -> None:
        same = from_rate == to_rate
        self._stream = None if same else soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality="HQ")

    def feed(self, audio: npt.NDArray[np.float32], last: bool = False) -> npt.NDArray[np.float32]:
        """Return what is certain after the next samples, float32 ``(samples,)``; with `last` all that is left."""
        if self._stream is None:
            return audio
        resampled: npt.NDArray[np.float32] = self._stream.resample_chunk(audio, last=last)
        return resampled
