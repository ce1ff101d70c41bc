"""Mel bands: params that log-mel and MFCC share, Slaney's filters, and log-mel spectra in dB.

Formulas and defaults are librosa's: Slaney's Auditory Toolbox scale (Apple Technical Report 45, 1998), linear
below 1 kHz and logarithmic above, with filters of equal area.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator
from scipy.sparse import csr_array

from audioml.features._stft import power_spectra
from audioml.params import FeatureParams
from audioml.units import samples_to_frames

AMIN = 1e-10
"""Power below which a band counts as silent, -100 dB; librosa's `power_to_db(amin=...)`."""
HZ_PER_MEL = 200.0 / 3.0
LOG_START_HZ = 1000.0
LOG_START_MEL = LOG_START_HZ / HZ_PER_MEL
LOG_STEP = math.log(6.4) / 27.0
DB_PER_NEPER = 10.0 / math.log(10.0)


class MelParams(FeatureParams):
    """The keys of mel spectra."""

    n_fft: Annotated[int, Field(ge=16, multiple_of=2)] = 512
    """Length of the Fourier transform in samples."""
    win_length: Annotated[int, Field(ge=2)] = 400
    """Length of the Hann window in samples, at most n_fft."""
    hop_length: Annotated[int, Field(ge=1)] = 160
    """Samples between frames."""
    n_mels: Annotated[int, Field(ge=1)] = 40
    """Mel bands."""
    fmin: Annotated[float, Field(ge=0)] = 20.0
    """Lower edge of the lowest band in Hz."""
    fmax: Annotated[float, Field(gt=0)] | None = None
    """Upper edge of the highest band in Hz; None takes half the sample rate."""
    top_db: Annotated[float, Field(gt=0)] | None = None
    """Raise bands that are more than this below the loudest of their window; None leaves them."""

    @property
    def fmax_hz(self) -> float:
        """The upper edge in Hz, `fmax` or half the sample rate."""
        return self.sample_rate / 2 if self.fmax is None else self.fmax

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.win_length > self.n_fft:
            raise ValueError(f"win_length {self.win_length} is longer than n_fft {self.n_fft}; it must fit into it")
        if self.fmax_hz > self.sample_rate / 2:
            raise ValueError(
                f"fmax {self.fmax_hz:g} Hz is above half the sample rate, {self.sample_rate / 2:g} Hz; lower fmax or "
                "leave it out"
            )
        if self.fmin >= self.fmax_hz:
            raise ValueError(f"fmin {self.fmin:g} Hz is not below fmax, {self.fmax_hz:g} Hz")
        filters = mel_filters(self.sample_rate, self.n_fft, self.n_mels, self.fmin, self.fmax_hz)
        empty = int((filters.max(axis=1) == 0).sum())
        if empty:
            raise ValueError(
                f"n_mels {self.n_mels} leaves {empty} bands without a frequency of the transform; "
                f"lower n_mels or raise n_fft {self.n_fft}"
            )
        return self


def hz_to_mel(frequencies_hz: ArrayLike) -> NDArray[np.float64]:
    """Return Slaney mels of frequencies in Hz."""
    hz = np.asarray(frequencies_hz, np.float64)
    above = LOG_START_MEL + np.log(np.maximum(hz, LOG_START_HZ) / LOG_START_HZ) / LOG_STEP
    return np.where(hz >= LOG_START_HZ, above, hz / HZ_PER_MEL)


def mel_to_hz(mels: ArrayLike) -> NDArray[np.float64]:
    """Return frequencies in Hz of Slaney mels."""
    mel = np.asarray(mels, np.float64)
    above = LOG_START_HZ * np.exp(LOG_STEP * (np.maximum(mel, LOG_START_MEL) - LOG_START_MEL))
    return np.where(mel >= LOG_START_MEL, above, HZ_PER_MEL * mel)


@lru_cache(maxsize=8)
def mel_filters(sample_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float) -> NDArray[np.float32]:
    """Return triangular filters of equal area, as `librosa.filters.mel(htk=False, norm="slaney")`.

    Parameters
    ----------
    sample_rate, fmin, fmax
        In Hz.
    n_fft
        Length of the transform in samples.
    n_mels
        Number of filters.

    Returns
    -------
    ndarray
        float32 `(n_mels, 1 + n_fft // 2)`, read-only.
    """
    bins_hz = np.fft.rfftfreq(n_fft, d=1.0 / sample_rate)
    edges_mel = np.linspace(float(hz_to_mel(fmin)), float(hz_to_mel(fmax)), n_mels + 2)
    edges_hz = mel_to_hz(edges_mel)
    width_hz = np.diff(edges_hz)
    distance_hz = np.subtract.outer(edges_hz, bins_hz)
    rising = -distance_hz[:-2] / width_hz[:-1, None]
    falling = distance_hz[2:] / width_hz[1:, None]
    filters: NDArray[np.float32] = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    filters *= (2.0 / (edges_hz[2:] - edges_hz[:-2]))[:, None]
    filters.flags.writeable = False
    return filters


@lru_cache(maxsize=8)
def _sparse_filters(sample_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float) -> csr_array:
    return csr_array(mel_filters(sample_rate, n_fft, n_mels, fmin, fmax))


def log_mel(params: MelParams, audio: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return mel power in dB, as librosa's `power_to_db(melspectrogram(...), ref=1.0, top_db=params.top_db)`.

    Parameters
    ----------
    params
        The transform and the bands.
    audio
        float32 `(n, samples)` in [-1, 1].

    Returns
    -------
    ndarray
        float32 `(n, n_mels, frames)` in dB, not below -100 dB.
    """
    n, samples = audio.shape
    n_frames = samples_to_frames(samples, params.hop_length)
    filters = _sparse_filters(params.sample_rate, params.n_fft, params.n_mels, params.fmin, params.fmax_hz)
    levels = np.empty((n, params.n_mels, n_frames), np.float32)
    for clips, frames, power in power_spectra(audio, params.n_fft, params.win_length, params.hop_length):
        mel = filters @ power
        np.maximum(mel, np.float32(AMIN), out=mel)
        np.log(mel, out=mel)
        mel *= np.float32(DB_PER_NEPER)
        shape = (params.n_mels, clips.stop - clips.start, frames.stop - frames.start)
        levels[clips, :, frames] = mel.reshape(shape).transpose(1, 0, 2)
    if params.top_db is not None:
        np.maximum(levels, levels.max(axis=(1, 2), keepdims=True) - np.float32(params.top_db), out=levels)
    return levels
