"""Mel-frequency cepstral coefficients with deltas, as librosa computes them.

Coefficients are the orthonormal DCT-II of log-mel levels in dB (Davis and Mermelstein, 1980). A delta is the
slope of a line, a delta of order 2 the curvature of a parabola, each fitted by least squares over 9 frames
(Savitzky and Golay, 1964); at the edges the fit over the first or last 9 frames holds.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from pydantic import Field, model_validator

from audioml.features._mel import MelParams, log_mel
from audioml.features._window import window_samples
from audioml.units import samples_to_frames

DELTA_WIDTH = 9
"""Frames that a delta is fitted over, librosa's default."""


class Params(MelParams):
    """The keys of `features` with `name: mfcc`."""

    n_mfcc: Annotated[int, Field(ge=1)] = 20
    """Coefficients, the lowest first; at most n_mels."""
    deltas: Literal[0, 1, 2] = 2
    """Highest order of deltas stacked below the coefficients; 0 for none."""
    top_db: Annotated[float, Field(gt=0)] | None = 80.0
    """Raise bands that are more than this below the loudest of their window (80 is `librosa.feature.mfcc`'s own);
    None leaves them."""

    @model_validator(mode="after")
    def _check_n_mfcc(self) -> Self:
        if self.n_mfcc > self.n_mels:
            raise ValueError(f"n_mfcc {self.n_mfcc} is more than n_mels {self.n_mels}; lower it or raise n_mels")
        return self


def feature_shape(params: Params) -> tuple[int, int]:
    """Return (bins, frames) of one window of `duration_s`; bins are coefficients, then deltas by order."""
    return params.n_mfcc * (1 + params.deltas), samples_to_frames(window_samples(params), params.hop_length)


def extract(params: Params, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return MFCC, float32 `(n, n_mfcc * (1 + deltas), frames)`, of float32 audio `(n, samples)`."""
    levels = log_mel(params, audio)
    n, _, n_frames = levels.shape
    features = np.empty((n, params.n_mfcc * (1 + params.deltas), n_frames), np.float32)
    for i, level in enumerate(levels):
        # One clip at a time: float64 only where it is in cache.
        cepstrum = scipy.fft.dct(level.astype(np.float64), axis=0, type=2, norm="ortho")[: params.n_mfcc]
        orders = [cepstrum, *(delta(cepstrum, order) for order in range(1, params.deltas + 1))]
        np.concatenate(orders, axis=0, out=features[i], casting="same_kind")
    return features


def delta(values: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """Return the local derivative along the last axis, as `librosa.feature.delta(width=9, mode="interp")`.

    Fitting a polynomial of degree `order` makes its derivative of that order one number a window, so the
    frames at the edges take that of the first or last whole window. Clips shorter than 9 frames are fitted
    over the largest odd number of frames they have, and give zeros where even that is too few.

    Parameters
    ----------
    values
        `(..., frames)`.
    order
        1 or 2.

    Returns
    -------
    ndarray
        The shape of `values`, per frame to the power of `order`.
    """
    n_frames = values.shape[-1]
    width = min(DELTA_WIDTH, n_frames - 1 + n_frames % 2)
    if width < 3:
        return np.zeros_like(values)
    at = np.arange(width) - width // 2
    basis = at.astype(np.float64) if order == 1 else at**2 - np.mean(at**2)
    kernel = order * basis / np.sum(basis**2)
    inner = np.zeros((*values.shape[:-1], n_frames - width + 1))
    for i, weight in enumerate(kernel):
        inner += weight * values[..., i : i + inner.shape[-1]]
    edges = [(0, 0)] * (values.ndim - 1) + [(width // 2, width // 2)]
    return np.pad(inner, edges, mode="edge")
