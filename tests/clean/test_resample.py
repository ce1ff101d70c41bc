import numpy as np
import pytest
import scipy.signal

from audioml.audio.sound import Sound
from audioml.clean import resample

from ._sounds import assert_pure, make_tone


@pytest.mark.parametrize(("from_rate", "to_rate"), [(8000, 16000), (44100, 16000), (16000, 8000)])
def test_a_tone_stays_a_tone(from_rate, to_rate):
    resampled = assert_pure(
        resample, resample.Params(sample_rate=to_rate), Sound(make_tone(1000, 1.0, from_rate), from_rate, 0.25)
    )
    assert (resampled.sample_rate, resampled.start_s) == (to_rate, 0.25)
    assert len(resampled.samples) == to_rate
    np.testing.assert_allclose(resampled.samples[500:-500], make_tone(1000, 1.0, to_rate)[500:-500], atol=4e-4)


def test_what_the_lower_rate_cannot_hold_goes():
    both = make_tone(1000, 1.0, 44100, 0.5) + make_tone(12000, 1.0, 44100, 0.5)
    resampled = resample.apply(resample.Params(sample_rate=16000), Sound(both, 44100))
    frequency, power = scipy.signal.welch(resampled.samples[500:-500], 16000, nperseg=4096)
    assert power[np.argmin(np.abs(frequency - 4000))] < 1e-9 * power.max()


def test_the_same_rate_changes_nothing():
    tone = make_tone(1000, 0.1, 8000)
    assert resample.apply(resample.Params(sample_rate=8000), Sound(tone, 8000)).samples is tone
