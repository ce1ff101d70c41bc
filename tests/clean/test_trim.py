import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.audio.decode import decode
from audioml.audio.sound import Sound
from audioml.clean import trim

from ._sounds import assert_pure, make_tone


def librosa_trim(samples, hop, threshold_db):
    return librosa.effects.trim(samples, top_db=threshold_db, frame_length=4 * hop, hop_length=hop)


def padded_tone(before_s, after_s, sample_rate=16000):
    zeros = [np.zeros(round(s * sample_rate), np.float32) for s in (before_s, after_s)]
    return np.concatenate([zeros[0], make_tone(440, 0.5, sample_rate, 0.5), zeros[1]])


@pytest.mark.parametrize("threshold_db", [20.0, 40.0, 60.0])
def test_spoken_digits_are_cut_where_librosa_cuts(fsdd_dir, threshold_db):
    params = trim.Params(threshold_db=threshold_db, keep_s=0)
    for path in sorted(fsdd_dir.glob("*.wav"))[::60]:
        audio, sample_rate = decode(path.read_bytes())
        trimmed = assert_pure(trim, params, Sound(audio[0], sample_rate))
        expected, (start, _) = librosa_trim(audio[0], 128, threshold_db)
        np.testing.assert_array_equal(trimmed.samples, expected)
        assert trimmed.start_s == start / sample_rate


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 5000), st.integers(0, 99), st.floats(0, 0.3))
def test_any_noise_is_cut_where_librosa_cuts_but_never_to_nothing(n_samples, seed, keep_s):
    generator = np.random.default_rng(seed)
    level = np.repeat(10 ** generator.uniform(-4, 0, n_samples // 200 + 1), 200)[:n_samples]
    samples = (level * generator.standard_normal(n_samples)).astype(np.float32)
    trimmed = trim.apply(trim.Params(threshold_db=30, keep_s=keep_s), Sound(samples, 8000, 2.0))
    _, (start, end) = librosa_trim(samples, 128, 30)
    keep = int(np.floor(keep_s * 8000 + 0.5))
    start, end = max(0, start - keep), min(n_samples, end + keep)
    np.testing.assert_array_equal(trimmed.samples, samples[start:end])
    assert trimmed.samples.size > 0
    assert trimmed.start_s == pytest.approx(2.0 + start / 8000)


def test_silence_around_goes_and_some_of_it_stays():
    samples = padded_tone(1.0, 2.0)
    trimmed = trim.apply(trim.Params(keep_s=0.1), Sound(samples, 16000))
    # A frame reaches half its length, 32 ms, beyond its centre.
    assert trimmed.start_s == pytest.approx(0.9, abs=0.05)
    assert len(trimmed.samples) / 16000 == pytest.approx(0.7, abs=0.1)
    start = round(trimmed.start_s * 16000)
    np.testing.assert_array_equal(trimmed.samples, samples[start : start + len(trimmed.samples)])


@pytest.mark.parametrize("n_samples", [0, 1, 100, 16000])
def test_silence_stays_as_it_is(n_samples):
    sound = Sound(np.zeros(n_samples, np.float32), 16000, 0.5)
    assert trim.apply(trim.Params(), sound) is sound


def test_trimming_twice_is_trimming_once():
    once = trim.apply(trim.Params(keep_s=0), Sound(padded_tone(0.7, 0.9), 16000))
    twice = trim.apply(trim.Params(keep_s=0), once)
    assert len(once.samples) - len(twice.samples) <= 2 * 256
