from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from audioml.audio.decode import decode
from audioml.audio.opus import OpusDecoder
from audioml.serving.stream_request import PcmDecoder, StreamError, StreamRequest, parse_request


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, StreamRequest(16000, "pcm16", True)),
        ({"format": "opus"}, StreamRequest(48000, "opus", True)),
        ({"sample_rate": "44100", "endpoint": "false"}, StreamRequest(44100, "pcm16", False)),
        ({"sample_rate": "8000", "format": "opus", "endpoint": "1", "token": "x"}, StreamRequest(8000, "opus", True)),
    ],
)
def test_query(query: dict[str, str], expected: StreamRequest) -> None:
    assert parse_request(query) == expected


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ({"format": "pcm"}, "format is 'pcm', but must be pcm16 or opus. Did you mean 'pcm16'"),
        ({"endpoint": "no"}, "endpoint is 'no', but must be true or false"),
        ({"sample_rate": "0"}, "from 4000 to 192000"),
        ({"sample_rate": "-16000"}, "from 4000 to 192000"),
        ({"sample_rate": "1e9"}, "from 4000 to 192000"),
        ({"sample_rate": "9" * 5000}, "'9{40}...', but"),
        ({"sample_rate": "٨٠٠٠"}, "from 4000"),
        ({"sample_rate": "44100", "format": "opus"}, "for opus one of 8000, 12000, 16000, 24000, 48000"),
    ],
)
def test_bad_query(query: dict[str, str], detail: str) -> None:
    with pytest.raises(StreamError, match=detail) as caught:
        parse_request(query)
    assert (caught.value.code, caught.value.reason) == (1008, "bad_query")


def test_samples_are_those_of_a_wav_file() -> None:
    samples = np.array([0, 1, -1, 32767, -32768, 12345], "<i2")
    file = io.BytesIO()
    soundfile.write(file, samples, 16000, format="WAV", subtype="PCM_16")
    np.testing.assert_array_equal(PcmDecoder().decode(samples.tobytes()), decode(file.getvalue())[0][0])


def test_each_format_has_its_decoder() -> None:
    assert isinstance(parse_request({}).make_decoder(), PcmDecoder)
    assert isinstance(parse_request({"format": "opus"}).make_decoder(), OpusDecoder)


def test_messages_are_checked() -> None:
    request = parse_request({})
    request.check(bytes(10), 10)
    with pytest.raises(StreamError, match="11 bytes; 10 is the limit") as large:
        request.check(bytes(11), 10)
    with pytest.raises(StreamError, match="9 bytes, an odd number") as odd:
        request.check(bytes(9), 10)
    assert (large.value.code, odd.value.code) == (1009, 1003)
    parse_request({"format": "opus"}).check(bytes(9), 10)
