import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.audio.decode import decode
from audioml.audio.prepare import mix_to_mono, prepare_audio
from audioml.audio.sound import Sound
from audioml.params import FeatureParams

from ._sounds import make_tone


def test_short_clips_are_centred_in_zeros():
    params = FeatureParams(sample_rate=1000, duration_s=1.0)
    windows, offsets_s = prepare_audio(np.ones((1, 400), np.float32), 1000, params, ())
    assert windows.shape == (1, 1000)
    assert offsets_s == pytest.approx([-0.3])
    np.testing.assert_array_equal(np.flatnonzero(windows[0]), np.arange(300, 700))


def test_long_clips_are_cropped_to_their_centre():
    params = FeatureParams(sample_rate=1000, duration_s=0.5)
    ramp = np.arange(1000, dtype=np.float32)[None]
    windows, offsets_s = prepare_audio(ramp, 1000, params, ())
    np.testing.assert_array_equal(windows[0], ramp[0, 250:750])
    assert offsets_s == pytest.approx([0.25])


def test_segments_cover_the_clip():
    params = FeatureParams(sample_rate=1000, duration_s=0.4, length="segment")
    ramp = np.arange(1050, dtype=np.float32)[None]
    windows, offsets_s = prepare_audio(ramp, 1000, params, ())
    np.testing.assert_allclose(offsets_s, [0, 0.2, 0.4, 0.6, 0.65])
    for window, offset_s in zip(windows, offsets_s, strict=True):
        np.testing.assert_array_equal(window, ramp[0, round(offset_s * 1000) :][:400])


def test_the_hop_between_segments_is_a_choice():
    params = FeatureParams(sample_rate=1000, duration_s=0.4, length="segment", segment_hop_s=0.4)
    assert prepare_audio(np.ones((1, 1200), np.float32), 1000, params, ())[1] == pytest.approx([0, 0.4, 0.8])


@pytest.mark.parametrize("n_samples", [1, 400, 3000])
def test_whole_clips_stay_as_long_as_they_are(n_samples):
    params = FeatureParams(sample_rate=1000, duration_s=0.5, length="whole")
    ramp = np.arange(1, n_samples + 1, dtype=np.float32)[None]
    windows, offsets_s = prepare_audio(ramp, 1000, params, ())
    assert offsets_s.tolist() == [0.0]
    np.testing.assert_array_equal(windows, ramp)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 5000), st.floats(0.01, 2), st.floats(0.01, 2), st.sampled_from(["pad", "segment"]))
def test_windows_have_one_shape_and_lose_nothing(n_samples, duration_s, hop_s, length):
    params = FeatureParams(sample_rate=1000, duration_s=duration_s, segment_hop_s=hop_s, length=length)
    audio = np.arange(1, n_samples + 1, dtype=np.float32)[None]
    windows, offsets_s = prepare_audio(audio, 1000, params, ())
    assert windows.dtype == np.float32
    assert offsets_s.dtype == np.float64
    assert len(windows) == len(offsets_s) >= 1
    assert windows.shape[1] == max(1, int(duration_s * 1000 + 0.5))
    if length == "segment" and hop_s <= duration_s:
        assert set(audio[0]) <= set(windows.ravel())


@pytest.mark.parametrize("sample_rate", [8000, 22050, 44100, 48000])
def test_resampling_keeps_a_tone(sample_rate):
    params = FeatureParams(sample_rate=16000, duration_s=1.0)
    time_s = np.arange(sample_rate) / sample_rate
    tone = (0.5 * np.sin(2 * np.pi * 1000 * time_s)).astype(np.float32)[None]
    window = prepare_audio(tone, sample_rate, params, ())[0][0]
    expected = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    np.testing.assert_allclose(window[500:-500], expected[500:-500], atol=2e-4)


def test_real_stereo_like_recordings(esc10_dir):
    audio, sample_rate = decode(sorted(esc10_dir.rglob("*.ogg"))[3].read_bytes())
    stereo = np.concatenate([audio, 0.5 * audio])
    params = FeatureParams(sample_rate=16000, duration_s=2.0)
    windows, offsets_s = prepare_audio(stereo, sample_rate, params, ())
    expected = soxr.resample(stereo.mean(axis=0), sample_rate, 16000, quality="HQ")
    start = round(offsets_s[0] * 16000)
    np.testing.assert_allclose(windows[0], expected[start : start + 32000], atol=1e-6)


def test_the_chain_runs_in_order_at_the_clips_own_rate():
    seen = []

    def double(sound):
        seen.append(sound.sample_rate)
        return Sound(2 * sound.samples, sound.sample_rate)

    def add_one(sound):
        seen.append(sound.samples[0])
        return Sound(sound.samples + np.float32(1), sound.sample_rate)

    params = FeatureParams(sample_rate=1000, duration_s=0.5)
    windows, _ = prepare_audio(np.full((2, 1000), 3, np.float32), 2000, params, (double, add_one))
    assert seen == [2000, 6.0]
    assert windows[0, 250] == pytest.approx(7, rel=1e-3)


@pytest.mark.parametrize("length", ["pad", "segment"])
def test_offsets_count_from_the_start_of_the_clip(length):
    """A chain that cuts the first half and doubles the rate, of a ramp that tells its own time."""

    def cut(sound):
        return Sound(np.repeat(sound.samples[500:], 2), 2 * sound.sample_rate, sound.start_s + 0.5)

    params = FeatureParams(sample_rate=2000, duration_s=0.2, length=length)
    ramp = (np.arange(1000, dtype=np.float32) / 1000)[None]
    windows, offsets_s = prepare_audio(ramp, 1000, params, (cut,))
    assert len(windows) == (4 if length == "segment" else 1)
    np.testing.assert_allclose(windows[:, 0], offsets_s, atol=1e-6)


def test_what_a_chain_leaves_empty_is_a_window_of_zeros():
    params = FeatureParams(sample_rate=1000, duration_s=0.5)
    windows, _ = prepare_audio(
        np.ones((1, 700), np.float32), 1000, params, (lambda sound: Sound(sound.samples[:0], 1000),)
    )
    np.testing.assert_array_equal(windows, np.zeros((1, 500)))


def test_one_channel_is_its_own_mix():
    tone = make_tone()
    assert mix_to_mono(tone) is not None
    np.testing.assert_array_equal(mix_to_mono(tone), tone[0])


def test_a_wrong_shape_says_what_to_do():
    with pytest.raises(ValueError, match=r"\(channels, samples\).*audio\[None\]"):
        prepare_audio(np.zeros(100, np.float32), 8000, FeatureParams(), ())
