"""Mel-frequency cepstral coefficients with deltas, as librosa computes them.

Coefficients are the orthonormal DCT-II of log-mel levels in dB (Davis and Mermelstein, 1980).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Literal, Self

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from pydantic import Field, model_validator

from audioml.features._batch import extract_batch
from audioml.features._deltas import DELTA_WIDTH, delta, delta_torch
from audioml.features._mel import MelParams, log_mel
from audioml.features._mel import clip_wide as clip_wide
from audioml.features._mel import frame_reach as mel_reach
from audioml.features._window import window_samples
from audioml.units import samples_to_frames

if TYPE_CHECKING:
    from torch import Tensor

GROUP_FRAMES = 1000
"""Frames, of however many windows, whose levels are transformed at once: float64 only while it is in cache."""


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


def shape_of(params: Params, n_samples: int) -> tuple[int, int]:
    """Return (bins, frames) of a window of `n_samples`; bins are coefficients, then deltas by order."""
    return params.n_mfcc * (1 + params.deltas), samples_to_frames(n_samples, params.hop_length)


def feature_shape(params: Params) -> tuple[int, int]:
    """Return (bins, frames) of one window of `duration_s`; bins are coefficients, then deltas by order."""
    return shape_of(params, window_samples(params))


def frame_reach(params: Params) -> int:
    """Return how many frames before and after it a frame depends on: at a clip's start on those of the first fit."""
    return mel_reach(params) + (DELTA_WIDTH - 1 if params.deltas else 0)


def extract_into(params: Params, windows: Sequence[NDArray[np.float32]], out: Sequence[NDArray[np.float32]]) -> None:
    """Write MFCC, float32 `(n_mfcc * (1 + deltas), frames)`, of float32 windows `(samples,)`."""
    for group, ends in _groups([into.shape[-1] for into in out]):
        levels = np.empty((params.n_mels, ends[-1]), np.float32)
        spans = [slice(start, end) for start, end in pairwise([0, *ends])]
        log_mel(params, windows[group], [levels[:, span] for span in spans])
        cepstrum = scipy.fft.dct(levels.astype(np.float64), axis=0, type=2, norm="ortho")[: params.n_mfcc]
        stacked = [cepstrum, *(delta(cepstrum, order, ends) for order in range(1, params.deltas + 1))]
        for into, span in zip(out[group], spans, strict=True):
            np.concatenate([part[:, span] for part in stacked], axis=0, out=into, casting="same_kind")


def extract(params: Params, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return MFCC, float32 `(n, n_mfcc * (1 + deltas), frames)`, of float32 audio `(n, samples)`."""
    return extract_batch(extract_into, params, shape_of(params, audio.shape[1]), audio)


def extract_torch(params: Params, audio: Tensor) -> Tensor:
    """Return what `extract` does, on the device of `audio`, as equal as `audioml.features` says."""
    import torch

    from audioml.features._torch import log_mel_torch, to_tensor

    basis = scipy.fft.dct(np.eye(params.n_mels), axis=0, type=2, norm="ortho")[: params.n_mfcc]
    cepstrum = to_tensor(basis, audio) @ log_mel_torch(params, audio).double()
    stacked = [cepstrum, *(delta_torch(cepstrum, order) for order in range(1, params.deltas + 1))]
    return torch.cat(stacked, dim=1).float()


def _groups(frames: Sequence[int]) -> Iterator[tuple[slice, list[int]]]:
    """Yield runs of windows with up to `GROUP_FRAMES` frames, at least one window, and where in it each ends."""
    start = 0
    ends: list[int] = []
    for index, count in enumerate(frames):
        if ends and ends[-1] + count > GROUP_FRAMES:
            yield slice(start, index), ends
            start, ends = index, []
        ends.append((ends[-1] if ends else 0) + count)
    if ends:
        yield slice(start, len(frames)), ends
