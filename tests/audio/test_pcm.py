from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.audio.decode import decode_with_info, probe
from audioml.audio.pcm import read_pcm_wav

from ._sounds import encode, make_tone


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def wav(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def fmt(tag=1, channels=1, sample_rate=8000, bits=16, block_align=None) -> bytes:
    align = channels * bits // 8 if block_align is None else block_align
    return chunk(b"fmt ", struct.pack("<HHIIHH", tag, channels, sample_rate, sample_rate * align, align, bits))


@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.integers(1, 6),
    n_samples=st.integers(1, 3000),
    sample_rate=st.sampled_from([8000, 11025, 16000, 44100, 192000]),
    before=st.lists(st.tuples(st.sampled_from([b"LIST", b"junk", b"id3 "]), st.binary(max_size=50)), max_size=3),
    after=st.binary(max_size=20),
)
def test_samples_are_those_of_soundfile_bit_for_bit(seed, channels, n_samples, sample_rate, before, after):
    samples = np.random.default_rng(seed).integers(-32768, 32768, (n_samples, channels)).astype("<i2")
    others = [chunk(name, body) for name, body in before]
    data = wav(fmt(channels=channels, sample_rate=sample_rate), *others, chunk(b"data", samples.tobytes()))
    data += chunk(b"LIST", after)
    expected, rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    found = read_pcm_wav(data)
    assert found is not None
    assert found.sample_rate == rate == sample_rate
    assert found.audio.dtype == np.float32
    assert found.audio.flags.c_contiguous
    assert found.audio.tobytes() == expected.T.tobytes()
    assert decode_with_info(data)[1] == probe(data)


def test_real_recordings_are_read(fsdd_dir):
    for path in sorted(fsdd_dir.glob("*.wav"))[::300]:
        found = read_pcm_wav(path.read_bytes())
        assert found is not None
        np.testing.assert_array_equal(found.audio[0], soundfile.read(path, dtype="float32")[0])


SAMPLES = chunk(b"data", bytes(range(200)))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"RIFF",
        wav(fmt()),
        wav(SAMPLES, fmt()),
        wav(fmt(), chunk(b"data", b"")),
        wav(fmt(), chunk(b"data", bytes(3))),
        wav(fmt(), SAMPLES)[:-1],
        wav(fmt(tag=3), SAMPLES),
        wav(fmt(tag=0xFFFE), SAMPLES),
        wav(fmt(bits=24), SAMPLES),
        wav(fmt(block_align=4), SAMPLES),
        wav(fmt(channels=0), SAMPLES),
        wav(fmt(channels=3), chunk(b"data", bytes(200))),
        wav(fmt(sample_rate=0), SAMPLES),
        wav(fmt(), fmt(), SAMPLES),
        wav(chunk(b"fmt ", bytes(14)), SAMPLES),
        wav(*[chunk(b"junk", b"")] * 200, fmt(), SAMPLES),
        wav(fmt(), SAMPLES).replace(b"RIFF", b"RIFX"),
        *(encode(make_tone(0.1), 16000, *c) for c in [("WAVEX", "PCM_16"), ("WAV", "ULAW"), ("FLAC", "PCM_16")]),
    ],
)
def test_what_is_not_ordinary_is_left_to_libsndfile(data):
    assert read_pcm_wav(data) is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120))
def test_any_bytes_after_the_magic_are_survived(noise):
    for data in (b"RIFF\0\0\0\0WAVE" + noise, wav(fmt(), noise)):
        found = read_pcm_wav(data)
        assert found is None or np.abs(found.audio).max() <= 1
