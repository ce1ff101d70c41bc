import math

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.audio.decode import decode
from audioml.audio.stats import measure_audio
from audioml.units import SILENCE_DBFS


def test_a_sine_has_the_levels_of_the_closed_form():
    sine = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)).astype(np.float32)[None]
    stats = measure_audio(sine, 16000)
    assert stats.duration_s == 1.0
    assert stats.peak_dbfs == pytest.approx(20 * math.log10(0.5), abs=1e-4)
    assert stats.rms_dbfs == pytest.approx(20 * math.log10(0.5 / math.sqrt(2)), abs=1e-4)
    assert stats.dc_offset == pytest.approx(0, abs=1e-6)
    assert stats.clipped_share == 0
    assert stats.silent_share == 0


def test_digital_silence_is_at_the_floor():
    stats = measure_audio(np.zeros((2, 8000), np.float32), 8000)
    assert stats.peak_dbfs == stats.rms_dbfs == SILENCE_DBFS
    assert stats.silent_share == 1


def test_half_silence_and_offset():
    audio = np.zeros((1, 8000), np.float32)
    audio[:, 4000:] = 0.1
    stats = measure_audio(audio, 8000)
    assert stats.silent_share == 0.5
    assert stats.dc_offset == pytest.approx(0.05, rel=1e-5)


def test_samples_at_full_scale_are_clipped():
    audio = np.zeros((1, 1000), np.float32)
    audio[0, :10] = 32767 / 32768
    audio[0, 10:30] = -1.0
    audio[0, 30:40] = 32766 / 32768
    assert measure_audio(audio, 8000).clipped_share == 0.03


def test_a_single_sample():
    stats = measure_audio(np.array([[0.25]], np.float32), 8000)
    assert stats.rms_dbfs == stats.peak_dbfs == pytest.approx(20 * math.log10(0.25))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40000), st.floats(1e-4, 1.0), st.integers(0, 1000))
def test_agrees_with_double_precision(channels, n_samples, scale, seed):
    audio = (scale * np.random.default_rng(seed).standard_normal((channels, n_samples))).astype(np.float32)
    stats = measure_audio(audio, 16000)
    double = audio.astype(np.float64)
    assert stats.rms_dbfs == pytest.approx(10 * math.log10(np.mean(double**2)), abs=1e-3)
    assert stats.dc_offset == pytest.approx(double.mean(), abs=1e-9)
    assert stats.clipped_share == pytest.approx(np.mean(np.abs(double) >= 32767 / 32768))


def test_silence_agrees_with_librosa_on_real_recordings(esc10_dir):
    for path in sorted(esc10_dir.rglob("*.ogg"))[::80]:
        audio, sample_rate = decode(path.read_bytes())
        length = 1103  # 25 ms at 44.1 kHz, half rounded up
        whole = audio[0, : audio.shape[1] // length * length]
        rms = librosa.feature.rms(y=whole, frame_length=length, hop_length=length, center=False)[0]
        expected = np.mean(rms < 10 ** (-60 / 20))
        assert measure_audio(whole[None], sample_rate).silent_share == pytest.approx(expected, abs=1.5 / len(rms))
