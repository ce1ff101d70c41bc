from __future__ import annotations

import librosa
import numpy as np
import pytest
from scipy import signal

from audioml.audio.condition import measure_condition
from audioml.audio.stats import measure_audio

RATE = 16000


def noise(level_dbfs: float, seconds: float = 2.0, channels: int = 1) -> np.ndarray:
    generator = np.random.default_rng(0)
    return (10 ** (level_dbfs / 20) * generator.standard_normal((channels, int(RATE * seconds)))).astype(np.float32)


def test_noise_floor_is_the_level_of_the_pauses() -> None:
    audio = noise(-50.0)
    time_s = np.arange(audio.shape[1]) / RATE
    # A tone in three quarters of it.
    audio[0] += np.where(time_s < 1.5, 0.3 * np.sin(2 * np.pi * 440 * time_s), 0).astype(np.float32)
    found = measure_condition(audio, RATE)
    # The quietest tenth of frames of noise lies a little below its level.
    assert found.noise_dbfs == pytest.approx(-50.5, abs=1.0)
    stats = measure_audio(audio, RATE)
    assert (found.rms_dbfs, found.clipped_share) == (stats.rms_dbfs, stats.clipped_share)


def test_noise_floor_of_steady_noise_is_its_level_at_any_rate() -> None:
    for rate in (8000, 22050, 44100):
        assert measure_condition(noise(-30.0), rate).noise_dbfs == pytest.approx(-30.5, abs=0.8)


def test_bandwidth_is_the_roll_off_that_librosa_finds() -> None:
    audio = noise(-20.0)
    low = signal.sosfilt(signal.butter(8, 2000, fs=RATE, output="sos"), audio).astype(np.float32)
    power = np.abs(librosa.stft(low[0], n_fft=512, hop_length=512, center=False)) ** 2
    expected = librosa.feature.spectral_rolloff(
        S=power.mean(axis=1, keepdims=True), sr=RATE, n_fft=512, roll_percent=0.99
    )[0, 0]
    assert measure_condition(low, RATE).bandwidth_hz == pytest.approx(expected, abs=RATE / 512)
    assert measure_condition(audio, RATE).bandwidth_hz == pytest.approx(0.99 * RATE / 2, rel=0.01)


def test_a_tone_has_the_bandwidth_of_its_frequency() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)[None].astype(np.float32)
    assert measure_condition(tone, RATE).bandwidth_hz == pytest.approx(1000, abs=RATE / 512)


def test_dc_is_no_sound() -> None:
    found = measure_condition(np.full((1, RATE), 0.25, np.float32), RATE)
    assert found.noise_dbfs < -60


def test_channels_are_heard_together() -> None:
    audio = noise(-20.0, channels=2)
    found = measure_condition(np.concatenate([audio[:1], -audio[:1]]), RATE)
    assert (found.noise_dbfs, found.bandwidth_hz) == (-120.0, 0.0)
    assert measure_condition(np.repeat(audio[:1], 2, axis=0), RATE).noise_dbfs == pytest.approx(
        measure_condition(audio[:1], RATE).noise_dbfs, abs=1e-3
    )


@pytest.mark.parametrize("n_samples", [1, 100, 513])
def test_short_and_silent_recordings(n_samples: int) -> None:
    found = measure_condition(np.zeros((1, n_samples), np.float32), RATE)
    assert (found.rms_dbfs, found.noise_dbfs, found.bandwidth_hz, found.silent_share) == (-120.0, -120.0, 0.0, 1.0)
    measure_condition(noise(-20.0)[:, :n_samples], RATE)
