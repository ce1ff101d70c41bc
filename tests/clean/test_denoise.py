import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.audio.noise import make_noise, scale_to_snr
from audioml.audio.sound import Sound
from audioml.clean import denoise

from ._sounds import assert_pure, make_speech, make_tone

RATE = 16000


def snr_db(clean, noisy):
    return 10 * np.log10(np.sum(clean.astype(float) ** 2) / np.sum((noisy.astype(float) - clean) ** 2))


def mix(clean, colour, at_snr_db, seed=0):
    noise = make_noise(len(clean), colour, np.random.default_rng(seed))
    return clean + scale_to_snr(noise, float(np.sqrt(np.mean(clean**2))), at_snr_db)


def make_beeps():
    return make_tone(700, 3.0, RATE, 0.2) * np.repeat(np.arange(6) % 2, RATE // 2).astype(np.float32)


@pytest.mark.parametrize(
    ("clean", "gains_db"), [(make_speech(3.0, RATE), (7, 5, 4)), (make_beeps(), (9, 8, 5))], ids=["speech", "beeps"]
)
def test_the_signal_to_noise_ratio_rises(clean, gains_db):
    for at_snr_db, gain_db in zip((0, 10, 20), gains_db, strict=True):
        noisy = mix(clean, "white", at_snr_db)
        cleaned = assert_pure(denoise, denoise.Params(), Sound(noisy, RATE)).samples
        assert snr_db(clean, cleaned) - at_snr_db > gain_db


@pytest.mark.parametrize(("colour", "gain_db"), [("pink", 4), ("brown", 0.5)])
def test_coloured_noise_goes_as_well(colour, gain_db):
    clean = make_speech(3.0, RATE)
    noisy = mix(clean, colour, 10)
    cleaned = denoise.apply(denoise.Params(), Sound(noisy, RATE)).samples
    assert snr_db(clean, cleaned) > 10 + gain_db


@pytest.mark.parametrize("reduction_db", [6.0, 12.0, 24.0])
def test_noise_alone_falls_by_the_reduction(reduction_db):
    noise = 0.1 * make_noise(10 * RATE, "white", np.random.default_rng(1))
    cleaned = denoise.apply(denoise.Params(reduction_db=reduction_db), Sound(noise, RATE)).samples
    assert 20 * np.log10(np.std(noise) / np.std(cleaned)) == pytest.approx(reduction_db, rel=0.15)


def test_clean_sound_stays():
    clean = make_speech(3.0, RATE) + 1e-5 * make_noise(3 * RATE, "white", np.random.default_rng(1))
    cleaned = denoise.apply(denoise.Params(), Sound(clean, RATE)).samples
    assert snr_db(clean, cleaned) > 40


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 20000), st.sampled_from([8000, 11025, 16000]), st.floats(0.002, 0.1))
def test_without_reduction_every_sample_comes_back(n_samples, sample_rate, frame_s):
    noise = np.random.default_rng(n_samples).uniform(-1, 1, n_samples).astype(np.float32)
    cleaned = denoise.apply(denoise.Params(reduction_db=0, frame_s=frame_s), Sound(noise, sample_rate, 0.5))
    np.testing.assert_allclose(cleaned.samples, noise, atol=1e-6)
    assert (cleaned.sample_rate, cleaned.start_s) == (sample_rate, 0.5)


def test_blocks_leave_no_trace(monkeypatch):
    noisy = Sound(mix(make_speech(2.0, RATE), "white", 10), RATE)
    in_one = denoise.apply(denoise.Params(), noisy).samples
    monkeypatch.setattr(denoise, "BLOCK_FRAMES", 17)
    np.testing.assert_allclose(denoise.apply(denoise.Params(), noisy).samples, in_one, atol=1e-6)


def test_digital_silence_is_not_the_noise():
    clean = make_speech(3.0, RATE)
    noisy = mix(clean, "white", 10)
    padded = np.concatenate([np.zeros(RATE, np.float32), noisy, np.zeros(RATE, np.float32)])
    cleaned = denoise.apply(denoise.Params(), Sound(padded, RATE)).samples[RATE:-RATE]
    assert snr_db(clean, cleaned) > 15


@pytest.mark.parametrize("samples", [np.zeros(16000), np.zeros(0), np.full(300, 0.5)], ids=["silent", "empty", "short"])
def test_nothing_to_learn_from_nothing_changed(samples):
    sound = Sound(samples.astype(np.float32), RATE)
    assert denoise.apply(denoise.Params(), sound) is sound
