from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import scipy.io.wavfile
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.audio.decode import decode, decode_with_info, probe
from audioml.errors import DecodeError

from ._sounds import CONTAINERS, LOSSLESS, encode, make_tone


def reason_of(data: bytes) -> str:
    with pytest.raises(DecodeError) as caught:
        decode(data)
    return caught.value.reason


@pytest.mark.parametrize(("container", "subtype"), LOSSLESS)
@pytest.mark.parametrize("channels", [1, 2])
def test_lossless_formats_give_the_samples_back(container, subtype, channels):
    tone = make_tone(channels=channels)
    audio, sample_rate = decode(encode(tone, 22050, container, subtype))
    assert sample_rate == 22050
    assert audio.dtype == np.float32
    assert audio.flags.c_contiguous
    np.testing.assert_allclose(audio, tone, atol=1 / 32768)


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS", "MPEG_LAYER_III"])
def test_lossy_formats_sound_alike(subtype):
    tone = make_tone()
    container = "MP3" if subtype == "MPEG_LAYER_III" else "OGG"
    audio, sample_rate = decode(encode(tone, 16000, container, subtype))
    assert sample_rate == 16000
    assert audio.shape == tone.shape
    assert np.corrcoef(audio[0], tone[0])[0, 1] > 0.9


def test_agrees_with_scipy_on_real_recordings(fsdd_dir):
    for path in sorted(fsdd_dir.glob("*.wav"))[::300]:
        expected_rate, expected = scipy.io.wavfile.read(path)
        audio, sample_rate = decode(path.read_bytes())
        assert sample_rate == expected_rate
        np.testing.assert_array_equal(audio[0], expected.astype(np.float32) / 32768)


def test_says_what_the_header_says(esc10_dir):
    data = next(iter(sorted(esc10_dir.rglob("*.ogg")))).read_bytes()
    audio, info = decode_with_info(data)
    assert info == probe(data)
    assert (info.format, info.subtype, info.sample_rate, info.channels) == ("OGG", "VORBIS", 44100, 1)
    assert info.n_samples == audio.shape[1]


@pytest.mark.parametrize(("container", "subtype"), CONTAINERS)
@pytest.mark.parametrize("share", [0.6, 0.97])
def test_cut_files_are_truncated(container, subtype, share):
    data = encode(make_tone(), 16000, container, subtype)
    assert reason_of(data[: int(len(data) * share)]) == "truncated"


def test_cut_real_recordings_are_truncated(fsdd_dir, esc10_dir):
    for path in [sorted(fsdd_dir.glob("*.wav"))[7], sorted(esc10_dir.rglob("*.ogg"))[7]]:
        data = path.read_bytes()
        assert reason_of(data[: len(data) // 2]) == "truncated"


@pytest.mark.parametrize("container", ["WAV", "AIFF", "AU", "OGG"])
def test_headers_without_samples_are_empty(container):
    assert reason_of(encode(make_tone()[:, :0], 16000, container)) == "empty"


def test_no_bytes_are_empty():
    assert reason_of(b"") == "empty"
    with pytest.raises(DecodeError, match="0 bytes"):
        probe(b"")


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1, max_size=2000))
def test_random_bytes_give_a_typed_error(data):
    with pytest.raises(DecodeError) as caught:
        decode(data)
    assert caught.value.reason in ("unreadable", "truncated", "empty")


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(CONTAINERS), st.floats(0, 1), st.binary(min_size=1, max_size=40))
def test_damage_never_escapes_the_error_tree(container, place, noise):
    data = bytearray(encode(make_tone(0.2), 16000, *container))
    start = int(place * (len(data) - len(noise)))
    data[start : start + len(noise)] = noise
    try:
        audio, sample_rate = decode(bytes(data))
    except DecodeError:
        return
    assert np.isfinite(audio).all()
    assert sample_rate > 0


def test_text_is_unreadable():
    assert reason_of(b"label,path\nyes,a.wav\n" * 50) == "unreadable"


def test_mpeg_4_says_how_to_convert():
    with pytest.raises(DecodeError, match="ffmpeg"):
        decode(struct.pack(">I", 24) + b"ftypM4A " + bytes(200))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers(value):
    tone = make_tone()
    tone[0, 5] = value
    assert reason_of(encode(tone, 16000, "WAV", "FLOAT")) == "not_finite"


def test_a_piped_wav_states_no_size():
    data = bytearray(encode(make_tone()))
    place = data.index(b"data") + 4
    data[4:8] = data[place : place + 4] = b"\xff\xff\xff\xff"
    assert decode(bytes(data))[0].shape == (1, 16000)


def test_a_piped_flac_states_no_length():
    data = bytearray(encode(make_tone(), 16000, "FLAC"))
    # STREAMINFO: 36 bits of total samples end at byte 26 of the file (RFC 9639, section 8.2).
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    assert decode(bytes(data))[0].shape == (1, 16000)


def test_a_constant_rate_mp3_without_a_length_is_read_to_its_end():
    buffer = io.BytesIO()
    soundfile.write(buffer, make_tone()[0], 16000, format="MP3", bitrate_mode="CONSTANT")
    assert b"Info" not in buffer.getvalue()
    assert decode(buffer.getvalue())[0].shape[1] >= 16000


def test_a_lying_header_does_not_fill_the_memory():
    data = bytearray(encode(make_tone(), 16000, "FLAC"))
    data[21] |= 0x0F
    data[22:26] = b"\xff\xff\xff\x00"
    assert reason_of(bytes(data)) == "truncated"


def test_many_blocks_join_without_a_seam(monkeypatch):
    monkeypatch.setattr("audioml.audio.decode.BLOCK_SAMPLES", 1000)
    tone = make_tone(channels=2)
    np.testing.assert_allclose(decode(encode(tone, 16000, "FLAC"))[0], tone, atol=1 / 32768)


@pytest.mark.parametrize("container", ["WAV", "FLAC"])
def test_what_memory_should_not_hold_is_refused(monkeypatch, container):
    monkeypatch.setattr("audioml.audio.decode.BLOCK_SAMPLES", 1000)
    monkeypatch.setattr("audioml.audio.decode.MAX_SAMPLES", 20_000)
    assert decode(encode(make_tone(), 16000, container))[0].shape == (1, 16000)
    assert reason_of(encode(make_tone(channels=2), 16000, container)) == "too_long"


def test_trailing_bytes_do_no_harm():
    buffer = io.BytesIO(encode(make_tone()))
    buffer.seek(0, io.SEEK_END)
    buffer.write(b"LIST" + struct.pack("<I", 4) + b"INFO")
    assert decode(buffer.getvalue())[0].shape == (1, 16000)


@pytest.mark.parametrize("rate", [1, 99, 1_000_001])
def test_rates_that_no_recording_has(rate):
    data = bytearray(encode(make_tone()))
    data[24:28] = struct.pack("<I", rate)
    assert reason_of(bytes(data)) == "unreadable"
