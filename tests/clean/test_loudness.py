import numpy as np
import pyloudnorm
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.audio.decode import decode
from audioml.audio.loudness import measure_loudness
from audioml.audio.sound import Sound
from audioml.clean import loudness

from ._sounds import assert_pure, make_speech, make_tone


@pytest.mark.parametrize("target_lufs", [-35.0, -23.0])
def test_spoken_words_come_to_the_target(fsdd_dir, target_lufs):
    params = loudness.Params(target_lufs=target_lufs, max_peak_dbfs=None)
    for path in sorted(fsdd_dir.glob("*.wav"))[::200]:
        audio, sample_rate = decode(path.read_bytes())
        levelled = assert_pure(loudness, params, Sound(audio[0], sample_rate))
        assert measure_loudness(levelled.samples, sample_rate) == pytest.approx(target_lufs, abs=1e-3)


def test_another_meter_finds_the_target():
    levelled = loudness.apply(loudness.Params(), Sound(make_speech(4.0, 44100), 44100, 0.5))
    meter = pyloudnorm.Meter(44100)
    assert meter.integrated_loudness(levelled.samples.astype(np.float64)) == pytest.approx(-23, abs=0.1)
    assert levelled.start_s == 0.5


@settings(deadline=None, max_examples=30)
@given(st.floats(0.001, 1), st.floats(-30, 0), st.integers(1, 20000))
def test_no_sample_exceeds_the_peak_and_the_shape_stays(peak, max_peak_dbfs, n_samples):
    samples = make_tone(300, 2.0, 10000, peak)[-n_samples:]
    params = loudness.Params(target_lufs=0.0, max_peak_dbfs=max_peak_dbfs)
    levelled = loudness.apply(params, Sound(samples, 10000)).samples
    assert np.abs(levelled).max() <= max(10 ** (max_peak_dbfs / 20) * (1 + 1e-6), 1e-3)
    np.testing.assert_allclose(levelled * np.abs(samples).max(), samples * np.abs(levelled).max(), atol=1e-6)


@pytest.mark.parametrize("n_samples", [0, 1, 1000, 16000])
def test_silence_stays_silence(n_samples):
    sound = Sound(np.zeros(n_samples, np.float32), 16000)
    assert loudness.apply(loudness.Params(), sound) is sound
