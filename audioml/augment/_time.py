"""Time scales of clips in a batch, each its own: faster or slower with the pitch, and without it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from audioml.augment._clips import fast_length, transform_back

OVERSAMPLING = 4
"""With cubic interpolation at this multiple of the rate, errors are 60 dB down up to half of the band, then 45 dB."""
GUARD = 64
"""Zeros at both ends of a clip, which a Fourier transform puts side by side."""
BLOCK_CLIPS = 8
"""Clips that are interpolated at once, as arrays that fit in the cache take half the time."""
HOP_S = 0.02
"""Frames of a stretch are twice as long: a period or more of any voice."""
REACH_S = 0.01
"""How far a frame may be moved to fit what stands before it: half a period of 50 Hz."""
CLOSENESS = 1e-3
"""What a frame that is not moved is worth, as a correlation: decides in silence."""
MIN_ENERGY = 1e-12


def change_speed(audio: Tensor, factors: Tensor, n_out: int) -> Tensor:
    """Play clips faster or slower about their middle: float32 (n, samples) to (n, n_out).

    A clip's spectrum is cut where the change would fold it, and its samples are interpolated by Catmull's and Rom's
    cubic (1974).

    Parameters
    ----------
    factors
        float32 (n,), on the CPU: 2 takes half the time, an octave higher. What is beyond the clip is zero.
    n_out
        Samples that come out.
    """
    parts = zip(torch.split(audio, BLOCK_CLIPS), torch.split(factors, BLOCK_CLIPS), strict=True)
    return torch.cat([audio.new_empty(0, n_out), *(_change_speed(*part, n_out) for part in parts)])


def _change_speed(audio: Tensor, factors: Tensor, n_out: int) -> Tensor:
    n_samples = audio.shape[1]
    length = fast_length(n_samples + 2 * GUARD)
    spectrum = torch.fft.rfft(pad(audio, (GUARD, 0)), length)
    kept = torch.arange(spectrum.shape[1]) * factors.clamp_min(1).unsqueeze(1) < length / 2
    fine = torch.fft.irfft(spectrum * kept.to(audio.device), OVERSAMPLING * length) * OVERSAMPLING
    steps = torch.arange(n_out, device=audio.device) - (n_out - 1) / 2
    where = (n_samples - 1) / 2 + steps * factors.to(audio.device, torch.float64).unsqueeze(1)
    inside = (where > -1) & (where < n_samples)
    where = (where.clamp(-1, n_samples) + GUARD) * OVERSAMPLING
    left = where.long()
    t = (where - left).float()
    a, b, c, d = (fine.gather(1, left + k) for k in (-1, 0, 1, 2))
    cubic = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    changed: Tensor = cubic * inside
    return changed


def follow_targets(targets: Tensor, chosen: Tensor, factors: Tensor) -> Tensor:
    """Return targets of clips that were played faster or slower about their middle; those of whole clips stay.

    Parameters
    ----------
    targets
        (n, labels), or along time (n, labels, steps): what is beyond the clip is zero.
    chosen
        int64 (m,): positions of the changed clips.
    factors
        float32 (m,), on the CPU: 2 takes half the time.
    """
    if targets.ndim < 3 or not len(chosen):
        return targets
    n_steps = targets.shape[2]
    middle = (n_steps - 1) / 2
    where = (middle + (torch.arange(n_steps) - middle) * factors.unsqueeze(1)).round().long().to(targets.device)
    at = chosen.to(targets.device)
    source = where.clamp(0, n_steps - 1).unsqueeze(1).expand(-1, targets.shape[1], -1)
    inside = (where >= 0) & (where < n_steps)
    return targets.index_copy(0, at, targets[at].gather(2, source) * inside.unsqueeze(1))


def stretch_time(audio: Tensor, rates: Tensor, n_out: int, sample_rate: int) -> Tensor:
    """Make clips faster or slower about their middle and keep their pitch: float32 (n, samples) to (n, n_out).

    Frames are laid over each other by halves, each taken from where it best continues the one before: WSOLA (Verhelst
    and Roelands, "An overlap-add technique based on waveform similarity (WSOLA) for high quality time-scale
    modification of speech", ICASSP 1993). Transients stay sharp.

    Parameters
    ----------
    rates
        float32 (n,), on the CPU: 2 takes half the time. What is beyond the clip is zero.
    n_out
        Samples that come out.
    """
    n, n_samples = audio.shape
    hop, reach = max(1, round(HOP_S * sample_rate)), max(1, round(REACH_S * sample_rate))
    margin = 3 * hop + reach
    padded = pad(audio, (margin, margin))
    n_frames = -(-n_out // hop) + 1
    middles = torch.arange(n_frames) * hop - (n_out - 1) / 2
    starts = (n_samples - 1) / 2 + middles * rates.double().unsqueeze(1) - hop
    starts = (starts.round().long().clamp(-2 * hop, n_samples) + margin).to(audio.device)
    window = torch.hann_window(2 * hop, device=audio.device)
    out = audio.new_zeros(n, (n_frames + 1) * hop)
    search = _Search(padded, hop, reach)
    place = starts[:, 0]
    for k in range(n_frames):
        if k:
            place = search.find(starts[:, k], continues=place + hop)
        out[:, k * hop : (k + 2) * hop] += window * _take(padded, place, 2 * hop)
    return out[:, hop : hop + n_out]


class _Search:
    """Finds where clips (n, samples) are most like other places of theirs, by normalised cross-correlation."""

    def __init__(self, clips: Tensor, size: int, reach: int) -> None:
        self._clips, self._size, self._reach = clips, size, reach
        self._length = fast_length(size + 2 * reach)
        lags = torch.arange(-reach, reach + 1, device=clips.device)
        self._closeness = CLOSENESS * (1 - lags.abs() / reach)
        self._energy = _sum_ahead(clips.square(), size)

    def find(self, near: Tensor, continues: Tensor) -> Tensor:
        """Return places (n,), each near another, from where `size` samples are like those from `continues` on."""
        size, n_lags = self._size, 2 * self._reach + 1
        wanted = _take(self._clips, continues, size)
        around = _take(self._clips, near - self._reach, size + n_lags - 1)
        product = torch.fft.rfft(around, self._length) * torch.fft.rfft(wanted, self._length).conj()
        correlation = transform_back(product, self._length, n_lags)
        energy = _take(self._energy, near - self._reach, n_lags) * wanted.square().sum(dim=1, keepdim=True)
        likeness = correlation / energy.clamp_min(MIN_ENERGY).sqrt()
        best: Tensor = (likeness + self._closeness).argmax(dim=1)
        return near - self._reach + best


def _sum_ahead(values: Tensor, size: int) -> Tensor:
    """Return the sums (n, samples) of `size` values from each on; by Fourier, as CUDA adds up in no fixed order."""
    length = fast_length(values.shape[1] + size)
    box = torch.fft.rfft(values.new_ones(size), length).conj()
    return transform_back(torch.fft.rfft(values, length) * box, length, values.shape[1])


def _take(values: Tensor, starts: Tensor, size: int) -> Tensor:
    """Return `size` values of each row (n, size) from its start (n,) on."""
    return values.gather(1, starts.unsqueeze(1) + torch.arange(size, device=values.device))
