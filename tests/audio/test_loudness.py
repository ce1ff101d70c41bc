import math

import numpy as np
import pyloudnorm
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.audio.loudness import k_weighting, measure_loudness

from ..clean._sounds import make_tone

# ITU-R BS.1770-4, tables 1 and 2: at 48 kHz.
SHELF = [1.53512485958697, -2.69169618940638, 1.19839281085285, 1, -1.69065929318241, 0.73248077421585]
HIGHPASS = [1.0, -2.0, 1.0, 1.0, -1.99004745483398, 0.99007225036621]


def pyloudnorm_loudness(samples, sample_rate):
    meter = pyloudnorm.Meter(sample_rate, filter_class="DeMan")
    return meter.integrated_loudness(samples.astype(np.float64))


def test_the_filters_are_the_standards():
    np.testing.assert_allclose(k_weighting(48000), [SHELF, HIGHPASS], atol=1e-13)


@pytest.mark.parametrize("sample_rate", [8000, 11025, 22050, 44100, 96000])
def test_the_filters_answer_alike_at_every_rate(sample_rate):
    frequency_hz = np.geomspace(20, sample_rate / 10, 50)
    _, found = scipy.signal.sosfreqz(k_weighting(sample_rate), frequency_hz, fs=sample_rate)
    _, expected = scipy.signal.sosfreqz(np.array([SHELF, HIGHPASS]), frequency_hz, fs=48000)
    np.testing.assert_allclose(20 * np.log10(abs(found) / abs(expected)), 0, atol=0.13)


@pytest.mark.parametrize(("sample_rate", "error_db"), [(8000, 0.21), (16000, 0.05), (44100, 0.005), (48000, 0.001)])
@pytest.mark.parametrize("level_db", [0.0, -23.0, -60.0])
def test_a_sine_at_full_scale_is_minus_3_01_lufs(sample_rate, error_db, level_db):
    """Annex 1, note 1: 997 Hz at 0 dBFS in one front channel."""
    tone = make_tone(997, 5.0, sample_rate, peak=10 ** (level_db / 20))
    assert measure_loudness(tone, sample_rate) == pytest.approx(-3.0103 + level_db, abs=error_db)


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 99), st.integers(4, 60), st.sampled_from([44100, 48000]))
def test_it_is_pyloudnorms(seed, n_steps, sample_rate):
    """Noise whose level jumps by up to 60 dB, so that both gates have work."""
    generator = np.random.default_rng(seed)
    # pyloudnorm rounds the number of blocks, and counts one that runs past the end: whole steps leave no doubt.
    n_samples = n_steps * sample_rate // 10
    level = np.repeat(10 ** generator.uniform(-4, -1, n_samples // 4000 + 1), 4000)[:n_samples]
    samples = (level * generator.standard_normal(n_samples)).astype(np.float32)
    assert measure_loudness(samples, sample_rate) == pytest.approx(pyloudnorm_loudness(samples, sample_rate), abs=0.005)


def test_quiet_parts_do_not_count():
    loud, quiet = make_tone(997, 4.0, 48000, 0.1), make_tone(997, 20.0, 48000, 0.1 * 10 ** (-30 / 20))
    together = measure_loudness(np.concatenate([loud, quiet]), 48000)
    # Blocks that lie across the edge count in part.
    assert together == pytest.approx(measure_loudness(loud, 48000), abs=0.3)
    assert measure_loudness(quiet, 48000) == pytest.approx(-53.01, abs=0.01)


def test_a_short_clip_is_one_block():
    tone = make_tone(997, 0.2, 48000)
    assert measure_loudness(tone, 48000) == pytest.approx(-3.01, abs=0.1)
    assert math.isfinite(measure_loudness(tone[:10], 48000))


@pytest.mark.parametrize("peak", [0.0, 1e-4])
def test_below_the_absolute_gate_there_is_no_loudness(peak):
    assert measure_loudness(make_tone(997, 1.0, 16000, peak), 16000) == -math.inf
    assert measure_loudness(np.zeros(0, np.float32), 16000) == -math.inf


@pytest.mark.parametrize("sample_rate", [1000, 2000, 3363])
def test_rates_below_the_shelf_are_measured_without_it(sample_rate):
    assert k_weighting(sample_rate).shape == (1, 6)
    _, response = scipy.signal.sosfreqz([HIGHPASS], [200], fs=48000)
    expected = -3.01 - 0.69 + 20 * np.log10(abs(response[0]))
    assert measure_loudness(make_tone(200, 2.0, sample_rate), sample_rate) == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("rate", [44056, 11111, 16001, 8001, 44100])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_clips_of_about_one_block(rate, more):
    n_samples = round(0.4 * rate) + more
    tone = np.sin(2 * np.pi * 997 * np.arange(n_samples) / rate).astype(np.float32)
    assert measure_loudness(tone, rate) == pytest.approx(-3.0, abs=0.3)
