"""Sounds that the tests of the cleaning plug-ins share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from audioml.audio.sound import Sound


def make_tone(frequency_hz: float, duration_s: float, sample_rate: int, peak: float = 1.0) -> npt.NDArray[np.float32]:
    time_s = np.arange(round(duration_s * sample_rate)) / sample_rate
    return (peak * np.sin(2 * np.pi * frequency_hz * time_s)).astype(np.float32)


def make_speech(duration_s: float, sample_rate: int, seed: int = 0) -> npt.NDArray[np.float32]:
    """Harmonics of a gliding voice under one broad formant, in bursts with pauses between; peak 0.3."""
    generator = np.random.default_rng(seed)
    time_s = np.arange(round(duration_s * sample_rate)) / sample_rate
    pitch_hz = 120 + 30 * np.sin(2 * np.pi * 0.7 * time_s + generator.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch_hz) / sample_rate
    voice = sum(np.sin(k * phase) / k * np.exp(-(((k * 120 - 600) / 900) ** 2) / 2) for k in range(1, 25))
    bursts = np.clip(np.sin(2 * np.pi * 1.3 * time_s + generator.uniform(0, 6)), 0, 1) ** 0.5
    return (0.3 * voice * bursts / np.abs(voice).max()).astype(np.float32)


def assert_pure(plugin, params, sound: Sound) -> Sound:  # type: ignore[no-untyped-def]
    """Apply a plug-in to read-only samples, twice; what comes must be float32 and the same."""
    samples = sound.samples.copy()
    samples.setflags(write=False)
    given = Sound(samples, sound.sample_rate, sound.start_s)
    first, second = plugin.apply(params, given), plugin.apply(params, given)
    assert first.samples.dtype == np.float32
    assert first.samples.ndim == 1
    np.testing.assert_array_equal(first.samples, second.samples)
    assert (first.sample_rate, first.start_s) == (second.sample_rate, second.start_s)
    return first
