"""Background noise: made in a colour, mixed at a signal-to-noise ratio."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

COLOURS = {"white": 0.0, "pink": 0.5, "brown": 1.0}
"""The exponent by which amplitude falls with frequency: power falls by 0, 3 and 6 dB an octave."""


def make_noise(n_samples: int, colour: str, generator: np.random.Generator) -> npt.NDArray[np.float32]:
    """Return Gaussian noise of a colour with unit RMS, float32 ``(samples,)``.

    White noise is shaped in the frequency domain (Timmer and König, 1995); the mean is zero.
    """
    spectrum = np.fft.rfft(generator.standard_normal(n_samples))
    frequency = np.arange(len(spectrum), dtype=np.float64)
    frequency[0] = 1.0
    spectrum *= frequency ** -COLOURS[colour]
    spectrum[0] = 0.0
    noise = np.fft.irfft(spectrum, n_samples)
    rms = float(np.sqrt(np.mean(noise**2)))
    return (noise / max(rms, 1e-30)).astype(np.float32)


def scale_to_snr(noise: npt.NDArray[np.float32], signal_rms: float, snr_db: float) -> npt.NDArray[np.float32]:
    """Scale noise of unit RMS so that a signal of `signal_rms` stands `snr_db` above it."""
    return noise * np.float32(signal_rms * 10 ** (-snr_db / 20))
