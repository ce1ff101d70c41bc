"""What a client asks of WS /stream, and how its messages become samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from audioml.audio.opus import RATES as OPUS_RATES
from audioml.audio.opus import OpusDecoder
from audioml.errors import did_you_mean

Floats = npt.NDArray[np.float32]

PCM_RATES = (4000, 192_000)
"""Lowest and highest rate in Hz."""
PCM16, PCM16_STEP = np.dtype("<i2"), np.float32(1 / 32768)
DEFAULT_RATES = {"pcm16": 16000, "opus": 48000}
"""In Hz, by format."""
SWITCHES = {"true": True, "1": True, "false": False, "0": False}

UNSUPPORTED_DATA, INVALID_DATA, POLICY, TOO_BIG, INTERNAL, TRY_AGAIN_LATER = 1003, 1007, 1008, 1009, 1011, 1013
"""Codes with which a WebSocket is closed (RFC 6455, section 7.4.1, and IANA's registry)."""


@dataclass(frozen=True)
class StreamLimits:
    """What a server takes on."""

    max_streams: int = 64
    """At once."""
    max_message_bytes: int = 1_000_000
    max_duration_s: float = 3600.0
    """Of a stream."""
    idle_timeout_s: float = 30.0
    """Without a message."""


class StreamError(Exception):
    """A stream that cannot go on; `code` is what WebSocket calls it."""

    def __init__(self, code: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.reason = reason
        self.detail = detail


class Decoder(Protocol):
    """Binary messages to samples."""

    def decode(self, message: bytes, /) -> Floats:
        """Return the samples of the next message, float32 (samples,).

        Raises
        ------
        DecodeError
            When a message is damaged.
        """


class PcmDecoder:
    """Little-endian 16-bit samples, mono; a message holds any number."""

    def decode(self, message: bytes) -> Floats:
        """Return the samples of the next message, as `audioml.audio.decode` does of a WAV file."""
        samples: Floats = np.frombuffer(message, PCM16) * PCM16_STEP
        return samples


@dataclass(frozen=True)
class StreamRequest:
    """The query of a stream."""

    sample_rate: int
    """Of PCM, or that to which Opus is decoded, in Hz."""
    format: str
    """pcm16 or opus."""
    endpoint: bool
    """Whether utterances are found; the whole stream is one otherwise."""

    def make_decoder(self) -> Decoder:
        """Return what decodes the stream's messages."""
        return OpusDecoder(self.sample_rate) if self.format == "opus" else PcmDecoder()

    def check(self, message: bytes, max_bytes: int) -> None:
        """Raise StreamError where a binary message cannot be one of this stream's."""
        if len(message) > max_bytes:
            detail = f"A message of {len(message)} bytes; {max_bytes} is the limit of this server. Send shorter ones."
            raise StreamError(TOO_BIG, "too_large", detail)
        if self.format == "pcm16" and len(message) % 2:
            detail = f"A message of {len(message)} bytes, an odd number: a sample of 16 bits has 2."
            raise StreamError(UNSUPPORTED_DATA, "odd_bytes", detail)


def parse_request(query: Mapping[str, str]) -> StreamRequest:
    """Return the request that a query states.

    Raises
    ------
    StreamError
        When a value is none of those that are possible.
    """
    name = query.get("format", "pcm16")
    if name not in DEFAULT_RATES:
        raise _bad("format", name, f"pcm16 or opus.{did_you_mean(name, DEFAULT_RATES)}")
    endpoint = query.get("endpoint", "true")
    if endpoint not in SWITCHES:
        raise _bad("endpoint", endpoint, "true or false.")
    return StreamRequest(_parse_rate(query.get("sample_rate"), name), name, SWITCHES[endpoint])


def _parse_rate(value: str | None, name: str) -> int:
    if value is None:
        return DEFAULT_RATES[name]
    rate = int(value) if value.isascii() and value.isdigit() and len(value) < 10 else 0
    if name == "opus" and rate not in OPUS_RATES:
        raise _bad("sample_rate", value, f"for opus one of {', '.join(map(str, OPUS_RATES))}, in Hz.")
    if not PCM_RATES[0] <= rate <= PCM_RATES[1]:
        raise _bad("sample_rate", value, f"a whole number from {PCM_RATES[0]} to {PCM_RATES[1]}, in Hz.")
    return rate


def _bad(key: str, value: str, expected: str) -> StreamError:
    shown = value if len(value) <= 40 else f"{value[:40]}..."
    return StreamError(POLICY, "bad_query", f"{key} is {shown!r}, but must be {expected}")
