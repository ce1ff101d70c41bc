"""Deltas of features along time, as librosa computes them.

A delta is the slope of a line, a delta of order 2 the curvature of a parabola, each fitted by least squares over
9 frames (Savitzky and Golay, 1964); at the edges the fit over the first or last 9 frames holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

DELTA_WIDTH = 9
"""Frames that a delta is fitted over, librosa's default."""


def delta(values: NDArray[np.float64], order: int, ends: Sequence[int] | None = None) -> NDArray[np.float64]:
    """Return the local derivative along the last axis, as `librosa.feature.delta(width=9, mode="interp")`.

    Fitting a polynomial of degree `order` makes its derivative of that order one number a window, so the
    frames at the edges take that of the first or last whole window. Clips shorter than 9 frames are fitted
    over the largest odd number of frames they have, and give zeros where even that is too few.

    Parameters
    ----------
    values
        `(..., frames)`, of one clip or of several side by side.
    order
        1 or 2.
    ends
        Where each clip ends; None for one clip.

    Returns
    -------
    ndarray
        The shape of `values`, per frame to the power of `order`.
    """
    spans = list(pairwise([0, *(ends or [values.shape[-1]])]))
    derived = np.zeros_like(values)
    # All at once as if they were one clip; what would reach into a neighbour is put right after.
    half = DELTA_WIDTH // 2
    if values.shape[-1] >= DELTA_WIDTH:
        derived[..., half:-half] = _fit(values, order, DELTA_WIDTH)
    for start, end in spans:
        width = _width(end - start)
        half = width // 2
        if width < DELTA_WIDTH:
            derived[..., start:end] = 0.0
        if 3 <= width < DELTA_WIDTH:
            derived[..., start + half : end - half] = _fit(values[..., start:end], order, width)
        if width >= 3:
            derived[..., start : start + half] = derived[..., start + half, None]
            derived[..., end - half : end] = derived[..., end - half - 1, None]
    return derived


def _width(n_frames: int) -> int:
    """Return the odd number of frames that a fit takes in a clip of `n_frames`."""
    return min(DELTA_WIDTH, n_frames - 1 + n_frames % 2)


def _kernel(order: int, width: int) -> NDArray[np.float64]:
    """Return the weights, `(width,)`, that give the derivative at the centre of `width` frames."""
    at = np.arange(width) - width // 2
    basis = at.astype(np.float64) if order == 1 else at**2 - np.mean(at**2)
    kernel: NDArray[np.float64] = order * basis / np.sum(basis**2)
    return kernel


def _fit(values: NDArray[np.float64], order: int, width: int) -> NDArray[np.float64]:
    """Return the derivative at every frame that `width` frames stand around, `(..., frames - width + 1)`."""
    n_frames = values.shape[-1] - width + 1
    fitted = np.zeros((*values.shape[:-1], n_frames))
    term = np.empty_like(fitted)
    for i, weight in enumerate(_kernel(order, width)):
        fitted += np.multiply(values[..., i : i + n_frames], weight, out=term)
    return fitted


def delta_torch(values: Tensor, order: int) -> Tensor:
    """Return what `delta` does of each row of a float64 tensor, `(..., frames)`, on its device."""
    import torch

    n_frames = values.shape[-1]
    width = _width(n_frames)
    if width < 3:
        return torch.zeros_like(values)
    fitted = values.unfold(-1, width, 1) @ values.new_tensor(_kernel(order, width))
    nearest = torch.arange(n_frames, device=values.device) - width // 2
    return fitted[..., nearest.clamp(0, fitted.shape[-1] - 1)]
