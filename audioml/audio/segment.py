"""Clips of any length to windows of one length."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Windows = tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]
"""Windows, float32 ``(windows, samples)``, and the sample of the clip at which each starts, ``(windows,)``."""


def fit_length(audio: npt.NDArray[np.float32], n_samples: int) -> Windows:
    """Make one window: crop a longer clip to its centre, pad a shorter one with zeros on both sides.

    A padded window starts before the clip, so its start is negative.
    """
    window = np.zeros(n_samples, dtype=np.float32)
    start = (len(audio) - n_samples) // 2
    if start >= 0:
        window[:] = audio[start : start + n_samples]
    else:
        window[-start : -start + len(audio)] = audio
    return window[np.newaxis], np.array([start], dtype=np.int64)


def cut_windows(audio: npt.NDArray[np.float32], n_samples: int, hop: int) -> Windows:
    """Cut a clip into windows every `hop` samples.

    Where the last window would run past the end, it ends with the clip instead: no sample is lost and no
    zeros are added. A clip shorter than one window is padded as `fit_length` does.
    """
    if len(audio) <= n_samples:
        return fit_length(audio, n_samples)
    last = len(audio) - n_samples
    starts = np.arange(0, last + 1, hop, dtype=np.int64)
    if starts[-1] != last:
        starts = np.append(starts, last)
    return np.stack([audio[start : start + n_samples] for start in starts]), starts
