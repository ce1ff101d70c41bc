"""Integrated loudness of mono audio in LUFS.

Source: Recommendation ITU-R BS.1770-4, annex 1: K-weighting, mean square over blocks of 400 ms each 100 ms, an
absolute gate at -70 LUFS and a relative one 10 LU below the mean of what passes the first.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.signal

STEP_S = 0.1
"""Blocks overlap by 75 %, so energies are summed in steps of a quarter of a block."""
BLOCK_STEPS = 4
BLOCK_S = BLOCK_STEPS * STEP_S
OFFSET_DB = -0.691
"""Makes a 997 Hz sine at full scale -3.01 LUFS (annex 1, note 1)."""
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0

SHELF_HZ, SHELF_Q, SHELF_DB = 1681.974450955533, 0.7071752369554196, 3.999843853973347
SHELF_BAND_EXPONENT = 0.4996667741545416
HIGHPASS_HZ, HIGHPASS_Q = 38.13547087602444, 0.5003270373238773
"""The analogue filters whose bilinear transforms at 48 kHz are the standard's tables 1 and 2 to all digits.

Source: B. De Man, "Evaluation of implementations of the EBU R128 loudness measurement", AES 145, 2018.
"""


def measure_loudness(audio: npt.NDArray[np.float32], sample_rate: int) -> float:
    """Return the integrated loudness in LUFS; minus infinity where no block reaches the absolute gate.

    Parameters
    ----------
    audio
        float32 ``(samples,)``, one channel. Less than 400 ms are one block of their own length.
    sample_rate
        Of `audio`, in Hz, at least 100.
    """
    power = _block_power(audio, sample_rate)
    loud = power[power >= _lufs_to_power(ABSOLUTE_GATE_LUFS)]
    if loud.size == 0:
        return -math.inf
    gate = loud.mean() * 10 ** (RELATIVE_GATE_LU / 10)
    return OFFSET_DB + 10 * math.log10(loud[loud >= gate].mean())


@lru_cache(maxsize=32)
def k_weighting(sample_rate: int) -> npt.NDArray[np.float64]:
    """Return K-weighting as second-order sections, float64 ``(2, 6)``; shared, so not to be written to.

    The bilinear transform bends the shelf at low rates: by 0.2 dB at 1 kHz for 8 kHz, 0.05 dB for 16 kHz. Where
    the shelf's corner (1.7 kHz) is not below half the rate, the shelf is left out.
    """
    sections = [_highpass(sample_rate)]
    if sample_rate > 2 * SHELF_HZ:
        sections.insert(0, _shelf(sample_rate))
    return np.array(sections)


def _shelf(sample_rate: int) -> list[float]:
    k = math.tan(math.pi * SHELF_HZ / sample_rate)
    high = 10 ** (SHELF_DB / 20)
    band = high**SHELF_BAND_EXPONENT
    a0 = 1 + k / SHELF_Q + k * k
    b = [high + band * k / SHELF_Q + k * k, 2 * (k * k - high), high - band * k / SHELF_Q + k * k]
    a = [a0, 2 * (k * k - 1), 1 - k / SHELF_Q + k * k]
    return [value / a0 for value in b + a]


def _highpass(sample_rate: int) -> list[float]:
    # The standard's numerator at 48 kHz is 1, -2, 1, which is 0.04 dB above unit gain; other rates get that gain too.
    k, k_48 = (math.tan(math.pi * HIGHPASS_HZ / rate) for rate in (sample_rate, 48000))
    a0, a0_48 = (1 + x / HIGHPASS_Q + x * x for x in (k, k_48))
    gain = a0_48 / a0
    return [gain, -2 * gain, gain, 1.0, 2 * (k * k - 1) / a0, (1 - k / HIGHPASS_Q + k * k) / a0]


def _block_power(audio: npt.NDArray[np.float32], sample_rate: int) -> npt.NDArray[np.float64]:
    """Return the K-weighted mean square of each whole block, or of the one block that a short clip is."""
    if audio.size == 0:
        return np.zeros(0)
    squares = np.square(scipy.signal.sosfilt(k_weighting(sample_rate), audio))
    n_steps = int(audio.size / (STEP_S * sample_rate) + 1e-9)
    if n_steps < BLOCK_STEPS:
        return np.array([squares.mean()])
    edges = np.floor(np.arange(n_steps + 1) * (STEP_S * sample_rate) + 0.5).astype(np.int64)
    sums = np.add.reduceat(squares[: edges[-1]], edges[:-1])
    blocks = np.lib.stride_tricks.sliding_window_view(sums, BLOCK_STEPS).sum(axis=1)
    power: npt.NDArray[np.float64] = blocks / (edges[BLOCK_STEPS:] - edges[:-BLOCK_STEPS])
    return power


def _lufs_to_power(level_lufs: float) -> float:
    return float(10 ** ((level_lufs - OFFSET_DB) / 10))
