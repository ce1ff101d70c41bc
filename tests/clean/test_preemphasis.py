import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from audioml.audio.sound import Sound
from audioml.clean import preemphasis

from ._sounds import assert_pure, make_tone

SAMPLES = arrays(np.float32, st.integers(2, 300), elements=st.floats(-1, 1, width=32))


@settings(deadline=None)
@given(SAMPLES, st.floats(0, 1))
def test_it_is_librosas(samples, coefficient):
    emphasised = assert_pure(preemphasis, preemphasis.Params(coefficient=coefficient), Sound(samples, 8000)).samples
    expected = librosa.effects.preemphasis(samples, coef=coefficient, zi=np.zeros(1, np.float32))
    np.testing.assert_allclose(emphasised, expected, atol=2e-7)


@given(SAMPLES)
def test_librosas_deemphasis_takes_it_back(samples):
    emphasised = preemphasis.apply(preemphasis.Params(), Sound(samples, 8000)).samples
    back = librosa.effects.deemphasis(emphasised.astype(np.float64), coef=0.97, zi=np.zeros(1))
    np.testing.assert_allclose(back, samples, atol=1e-5)


@pytest.mark.parametrize("frequency_hz", [100, 1000, 3500])
def test_its_gain_is_that_of_a_first_difference(frequency_hz):
    emphasised = preemphasis.apply(preemphasis.Params(), Sound(make_tone(frequency_hz, 1.0, 8000), 8000)).samples
    expected = abs(1 - 0.97 * np.exp(-2j * np.pi * frequency_hz / 8000))
    assert np.sqrt(2 * np.mean(emphasised[1:] ** 2)) == pytest.approx(expected, rel=2e-3)


def test_no_samples_no_samples():
    assert preemphasis.apply(preemphasis.Params(), Sound(np.zeros(0, np.float32), 8000)).samples.size == 0
