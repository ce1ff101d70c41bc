from __future__ import annotations

import io

import numpy as np
import pytest
import scipy.io.wavfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.audio.decode import AudioInfo, decode, decode_with_info, probe
from audioml.audio.encode import encode_like

from ._sounds import encode, make_tone


def encode_again(data: bytes):
    audio, source = decode_with_info(data)
    again, exact, info = encode_like(audio, source)
    np.testing.assert_array_equal(decode(again)[0], exact)
    assert probe(again) == info
    return audio, exact, info


@pytest.mark.parametrize(
    ("container", "subtype", "expected"),
    [
        *[("WAV", s, "PCM_16") for s in ("PCM_U8", "PCM_16", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610")],
        *[("FLAC", s, "PCM_16") for s in ("PCM_S8", "PCM_16")],
        *[("CAF", "ALAC_16", "PCM_16"), ("CAF", "ALAC_24", "PCM_24")],
        *[(c, "PCM_24", "PCM_24") for c in ("WAV", "FLAC")],
        *[("WAV", s, "FLOAT") for s in ("PCM_32", "FLOAT", "DOUBLE")],
    ],
)
def test_samples_that_are_exact_stay_exact(container, subtype, expected):
    audio, exact, info = encode_again(encode(make_tone(0.3, 8000), 8000, container, subtype))
    assert (info.format, info.subtype) == ("WAV" if expected == "FLOAT" else "FLAC", expected)
    np.testing.assert_array_equal(exact, audio)


@pytest.mark.parametrize(("container", "subtype"), [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_lossy_samples_are_rounded_to_16_bits(container, subtype):
    audio, exact, info = encode_again(encode(make_tone(0.3, peak=0.9), 16000, container, subtype))
    assert (info.format, info.subtype) == ("FLAC", "PCM_16")
    np.testing.assert_allclose(exact, audio, atol=0.5 / 32768)


def test_lossy_samples_beyond_full_scale_are_clipped():
    source = AudioInfo("OGG", "VORBIS", 16000, 1, 3)
    _, exact, _ = encode_like(np.array([[1.5, -1.5, 0.0]], dtype=np.float32), source)
    np.testing.assert_array_equal(exact, [[32767 / 32768, -1.0, 0.0]])


@pytest.mark.parametrize(
    ("sample_rate", "channels", "expected"),
    [(65535, 8, "FLAC"), (192000, 1, "FLAC"), (70001, 1, "WAV"), (700000, 1, "WAV"), (8000, 9, "WAV")],
)
def test_what_flac_cannot_hold_becomes_wav(sample_rate, channels, expected):
    audio = make_tone(0.01, sample_rate, channels)
    _, exact, info = encode_again(encode(audio, sample_rate, "WAV", "PCM_16"))
    assert (info.format, info.sample_rate, info.channels) == (expected, sample_rate, channels)
    assert exact.shape == audio.shape


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_equal_audio_makes_equal_bytes(subtype):
    audio, source = make_tone(0.1, channels=2), AudioInfo("WAV", subtype, 16000, 2, 1600)
    first = encode_like(audio, source)[0]
    assert b"PEAK" not in first, "libsndfile puts the time into it"
    assert encode_like(audio.copy(order="F"), source)[0] == first


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 3),
    st.sampled_from([("PCM_16", 16), ("PCM_24", 24)]),
    st.integers(0, 2**32),
)
def test_any_integers_survive(n_samples, channels, encoding, seed):
    subtype, bits = encoding
    limit = 1 << (bits - 1)
    integers = np.random.default_rng(seed).integers(-limit, limit, (channels, n_samples), endpoint=False)
    audio = (integers / limit).astype(np.float32)
    data, exact, info = encode_like(audio, AudioInfo("WAV", subtype, 8000, channels, n_samples))
    assert (info.format, info.subtype) == ("FLAC", subtype)
    np.testing.assert_array_equal(exact * limit, integers)
    np.testing.assert_array_equal(decode(data)[0], audio)


@pytest.mark.parametrize("channels", [1, 3])
def test_scipy_reads_the_wav(channels):
    audio = make_tone(0.05, channels=channels)
    data, _, _ = encode_like(audio, AudioInfo("WAV", "FLOAT", 22050, channels, audio.shape[1]))
    sample_rate, samples = scipy.io.wavfile.read(io.BytesIO(data))
    assert sample_rate == 22050
    np.testing.assert_array_equal(samples.reshape(-1, channels).T, audio)
