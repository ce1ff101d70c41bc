import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from audioml.audio.sound import Sound
from audioml.clean import remove_dc

from ._sounds import assert_pure, make_tone

PARAMS = remove_dc.Params()


def test_the_mean_goes_and_the_rest_stays():
    tone = make_tone(440, 1.0, 16000, peak=0.5)
    cleaned = assert_pure(remove_dc, PARAMS, Sound(tone + np.float32(0.3), 16000, 1.5))
    np.testing.assert_allclose(cleaned.samples, tone, atol=1e-7)
    assert (cleaned.sample_rate, cleaned.start_s) == (16000, 1.5)


@given(arrays(np.float32, st.integers(0, 300), elements=st.floats(-1, 1, width=32)))
def test_nothing_but_one_number_is_subtracted(samples):
    cleaned = remove_dc.apply(PARAMS, Sound(samples, 8000)).samples
    assert len(cleaned) == len(samples)
    if len(samples):
        np.testing.assert_array_equal(cleaned, samples - np.float32(samples.mean(dtype=np.float64)))
        assert cleaned.mean(dtype=np.float64) == pytest.approx(0, abs=1e-6)


def test_a_small_offset_of_a_long_loud_clip_is_found():
    """Summed in single precision, the mean of ten million samples would be off by far more than 1e-6."""
    samples = np.full(10_000_000, 0.1, np.float32)
    samples[::2] += np.float32(0.7)
    cleaned = remove_dc.apply(PARAMS, Sound(samples, 16000)).samples
    assert cleaned.mean(dtype=np.float64) == pytest.approx(0, abs=5e-8)
