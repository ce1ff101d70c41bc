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
