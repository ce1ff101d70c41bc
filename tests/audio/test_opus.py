from __future__ import annotations

import io
from contextlib import suppress

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.audio.opus import RATES, OpusDecoder, ogg_checksum, packet_samples
from audioml.errors import DecodeError


def make_sound(n_samples: int, rate: int) -> np.ndarray:
    """A glide with pauses, which Opus codes in several ways."""
    at_s = np.arange(n_samples) / rate
    tone = 0.4 * np.sin(2 * np.pi * (200 * at_s + 400 * at_s**2)) * (np.sin(5 * at_s) > -0.5)
    return (tone + np.random.default_rng(0).normal(0, 0.01, n_samples)).astype(np.float32)


def write_opus(samples: np.ndarray, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="OGG", subtype="OPUS")
    return file.getvalue()


def take_apart(data: bytes) -> tuple[list[bytes], list[bytes]]:
    """Pages and packets of an Ogg file (RFC 3533)."""
    pages, packets, packet, position = [], [], b"", 0
    while position < len(data):
        n_segments = data[position + 26]
        lacing = data[position + 27 : position + 27 + n_segments]
        start = position
        position += 27 + n_segments
        for size in lacing:
            packet += data[position : position + size]
            position += size
            if size < 255:
                packets.append(packet)
                packet = b""
        pages.append(data[start:position])
    return pages, packets


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2])
def test_packet_by_packet_is_the_whole_file(rate: int, channels: int) -> None:
    """Bit for bit, where the file is mono. libopus mixes stereo down while decoding, nearly as the mean does."""
    sound = make_sound(3 * rate, rate)
    data = write_opus(sound if channels == 1 else np.stack([sound, 0.3 * np.roll(sound, 50)], 1), rate)
    (head, _, *packets) = take_apart(data)[1]
    expected, found_rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    assert found_rate == rate
    decoder = OpusDecoder(rate)
    samples = np.concatenate([decoder.decode(packet) for packet in packets])
    pre_skip = int.from_bytes(head[10:12], "little") * rate // 48000
    samples = samples[pre_skip:][: len(expected)]
    assert len(samples) == len(expected)
    np.testing.assert_allclose(samples, expected.mean(axis=1), atol=0 if channels == 1 else 0.03)
    assert np.abs(samples).max() > 0.2


def test_durations_are_those_that_the_decoder_makes() -> None:
    packets = take_apart(write_opus(make_sound(48000, 48000), 48000))[1][2:]
    for rate in RATES:
        decoder = OpusDecoder(rate)
        for packet in packets[:5]:
            assert len(decoder.decode(packet)) == packet_samples(packet) * rate // 48000 > 0


def test_the_checksum_is_that_of_libogg() -> None:
    pages, _ = take_apart(write_opus(make_sound(48000, 48000), 48000))
    for page in pages:
        assert ogg_checksum(page[:22] + bytes(4) + page[26:]) == int.from_bytes(page[22:26], "little")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=80), min_size=1, max_size=6), st.sampled_from(RATES))
def test_whatever_comes_is_samples_or_an_error_of_ours(packets: list[bytes], rate: int) -> None:
    decoder = OpusDecoder(rate)
    with suppress(DecodeError):
        for packet in packets:
            samples = decoder.decode(packet)
            assert len(samples) == packet_samples(packet) * rate // 48000
            assert np.isfinite(samples).all()


def test_a_stream_of_hours_holds_no_more_than_a_packet() -> None:
    decoder = OpusDecoder(8000)
    packet = take_apart(write_opus(make_sound(48000, 48000), 48000))[1][10]
    for _ in range(5000):
        decoder.decode(packet)
    assert len(decoder._pages._held) < 2 * len(packet) + 300


@pytest.mark.parametrize(
    ("packet", "detail"),
    [
        (b"", "0 bytes"),
        (bytes(70_000), "70000 bytes"),
        (b"\x03", "ends before its count"),
        (b"\x03\x00", "0 frames"),
        (b"\x1b\x03" + bytes(9), "3 frames of 60 ms"),
    ],
)
def test_damage_that_shows_is_named(packet: bytes, detail: str) -> None:
    with pytest.raises(DecodeError, match=detail):
        OpusDecoder().decode(packet)


def test_rates_that_opus_has_not_are_refused() -> None:
    with pytest.raises(DecodeError, match="48000 Hz, not to 44100"):
        OpusDecoder(44100)
