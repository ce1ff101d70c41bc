import math

from hypothesis import given
from hypothesis import strategies as st

from audioml import units


@given(st.integers(0, 10_000_000), st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000]))
def test_samples_survive_the_way_to_seconds_and_back(n_samples, sample_rate):
    assert units.seconds_to_samples(units.samples_to_seconds(n_samples, sample_rate), sample_rate) == n_samples


def test_half_a_sample_rounds_up():
    assert units.seconds_to_samples(1.5 / 8000, 8000) == 2


def test_frames_are_those_of_a_centred_stft():
    import librosa
    import numpy as np

    for n_samples in (16, 79, 80, 8000, 8001):
        frames = librosa.stft(np.zeros(n_samples, np.float32), n_fft=16, hop_length=80).shape[1]
        assert units.samples_to_frames(n_samples, 80) == frames


@given(st.floats(-119, 0))
def test_levels_survive_the_way_to_amplitude_and_back(level_dbfs):
    assert math.isclose(units.amplitude_to_dbfs(units.dbfs_to_amplitude(level_dbfs)), level_dbfs, abs_tol=1e-9)


def test_silence_has_the_floor_level():
    assert units.amplitude_to_dbfs(0.0) == units.SILENCE_DBFS
