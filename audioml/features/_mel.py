"""Mel bands: params that log-mel and MFCC share, Slaney's filters, and log-mel spectra in dB.

Formulas and defaults are librosa's: Slaney's Auditory Toolbox scale (Apple Technical Report 45, 1998), linear
below 1 kHz and logarithmic above, with filters of equal area.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator
from scipy.sparse import csr_array

from audioml.features._stft import squared_spectra
from audioml.params import FeatureParams

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
    subtract_mean: bool = False
    """Subtract from each band its mean over the window, so that microphones and rooms that colour the sound alike
    make no difference (cepstral mean normalisation: Furui 1981, doi 10.1109/TASSP.1981.1163530). A frame counts by how
    far its bands are above their lowest levels, so that a short clip between silence has the mean of its own sound. Set
    top_db with it, or noise that is hardly there decides what is lowest."""

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


def frame_reach(params: MelParams) -> int:
    """Return how many frames before and after a frame its samples reach, rounded up."""
    return -(-(params.win_length - params.win_length // 2) // params.hop_length)


def clip_wide(params: MelParams) -> list[str]:
    """Return the keys by which a frame depends on its whole window."""
    keys = {"top_db": params.top_db is not None, "subtract_mean": params.subtract_mean}
    return [key for key, is_set in keys.items() if is_set]


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


def log_mel(params: MelParams, windows: Sequence[NDArray[np.float32]], out: Sequence[NDArray[np.float32]]) -> None:
    """Write mel power in dB, as librosa's `power_to_db(melspectrogram(...), ref=1.0, top_db=params.top_db)`.

    Parameters
    ----------
    params
        The transform and the bands.
    windows
        float32 `(samples,)` each, in [-1, 1], of any lengths.
    out
        float32 `(n_mels, frames)` for each window, every number of which is written: in dB, not below -100 dB, unless
        a band's mean is subtracted.
    """
    filters = _sparse_filters(params.sample_rate, params.n_fft, params.n_mels, params.fmin, params.fmax_hz)
    # Of frames without sound. Through the same steps, so that whether a frame is left out does not show.
    floor = _to_db(np.zeros(1, np.float32))[0]
    n_written = [0] * len(windows)
    for runs, squares in squared_spectra(windows, params.n_fft, params.win_length, params.hop_length):
        # Both parts go through the filters, as adding them before costs more: there are more bins than bands.
        parts = filters @ squares
        levels = _to_db(parts[:, ::2] + parts[:, 1::2])
        for window, first, place, count in runs:
            into = out[window]
            if first and not n_written[window]:
                into[:, :first] = floor
            into[:, first : first + count] = levels[:, place : place + count]
            n_written[window] = first + count
    for into, n_frames in zip(out, n_written, strict=True):
        into[:, n_frames:] = floor
    if params.top_db is not None:
        for into in out:
            np.maximum(into, into.max() - np.float32(params.top_db), out=into)
    if params.subtract_mean:
        for into in out:
            _subtract_mean(into)


def _subtract_mean(levels: NDArray[np.float32]) -> None:
    """Subtract from each band its mean over frames, weighed by how far all bands are above their lowest, in place."""
    weights = (levels - levels.min(axis=1, keepdims=True)).mean(axis=0, dtype=np.float64)
    if total := weights.sum():
        levels -= (levels @ (weights / total))[:, None].astype(np.float32)
    else:  # A window without sound: no band ever changes.
        levels[...] = 0


def _to_db(power: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn power into dB in place."""
    np.maximum(power, np.float32(AMIN), out=power)
    np.log(power, out=power)
    power *= np.float32(DB_PER_NEPER)
    return power
