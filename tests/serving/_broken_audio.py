"""Recordings and requests that are wrong in as many ways as we know, drawn from a seed."""

from __future__ import annotations

import base64
import io
import random
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import soundfile

FORMATS = (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAV", "PCM_24"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"))
FORMATS += (("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"), ("AU", "PCM_16"), ("CAF", "PCM_16"))
RATES = (0, 1, 99, 8000, 48000, 2**31 - 1, 2**32 - 1)
COUNTS = (0, 1, 2, 255, 1024, 65535)
LENGTHS = (0, 1, 0x7FFFF000, 0x7FFFFFFF, 0xFFFFFFFF)


class Request(NamedTuple):
    """What is sent to a server."""

    path: str
    body: bytes
    content_type: str


def whole_files(seed: int = 0) -> list[bytes]:
    """Return a short recording in each format that libsndfile writes here."""
    generator = np.random.default_rng(seed)
    files = []
    for form, subtype in FORMATS:
        buffer = io.BytesIO()
        soundfile.write(buffer, 0.3 * generator.standard_normal(4000).clip(-1, 1), 16000, format=form, subtype=subtype)
        files.append(buffer.getvalue())
    return files


class Stream(NamedTuple):
    """What is sent to `/stream`."""

    query: str
    messages: list[bytes | str]


class Breaker:
    """Draws broken recordings and requests; equal seeds draw equal ones."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._files = whole_files()

    def recording(self) -> bytes:
        """Return a recording that is broken in one of many ways; now and then a whole one."""
        ways: tuple[Callable[[], bytes], ...] = (
            lambda: self._random.choice(self._files),
            self._cut,
            self._flip,
            self._flip_head,
            self._splice,
            self._wav_header,
            self._not_finite,
            self._flac_of_hours,
            self._wav_of_hours,
            self._noise,
            lambda: b"",
        )
        return self._random.choice(ways)()

    def request(self) -> Request:
        """Return a request with a broken recording, or one that is broken itself."""
        ways: tuple[Callable[[], Request], ...] = (
            lambda: Request("/predict", self.recording(), "audio/wav"),
            lambda: Request("/predict", self.recording(), "audio/wav"),
            self._form,
            self._invocation,
        )
        return self._random.choice(ways)()

    def stream(self) -> Stream:
        """Return a live stream whose query or messages are broken, or that holds noise; it ends or breaks off."""
        pick = self._random.choice
        form = pick(("pcm16", "pcm16", "opus", "mp3", ""))
        rate = pick(("16000", "8000", "48000", "0", "-1", "1e9", "nan", "x", ""))
        query = pick(
            (f"sample_rate={rate}&format={form}", f"format={form}", "", "sample_rate=8000&endpoint=false", "%00=&&")
        )
        samples = (np.array([self._random.gauss(0, pick((0, 0.01, 0.3))) for _ in range(2000)]) * 32767).clip(
            -32768, 32767
        )
        messages: list[bytes | str] = [
            pick(
                (
                    samples.astype("<i2").tobytes(),
                    self._random.randbytes(self._random.randrange(400)),
                    b"",
                    b"x",
                    '{"type": "end"}',
                    "{",
                    "[" * 3000,
                    '{"type": 1}',
                )
            )
            for _ in range(self._random.randrange(6))
        ]
        return Stream(query, messages + pick(([], ['{"type": "end"}'])))

    def _cut(self) -> bytes:
        data = self._random.choice(self._files)
        return data[: self._random.randrange(len(data))]

    def _flip(self) -> bytes:
        data = bytearray(self._random.choice(self._files))
        for _ in range(self._random.choice((1, 3, 30, 300))):
            data[self._random.randrange(len(data))] = self._random.randrange(256)
        return bytes(data)

    def _flip_head(self) -> bytes:
        data = bytearray(self._random.choice(self._files))
        for _ in range(self._random.randrange(1, 8)):
            data[self._random.randrange(min(len(data), 128))] = self._random.randrange(256)
        return bytes(data)

    def _splice(self) -> bytes:
        one, other = self._random.sample(self._files, 2)
        return one[: self._random.randrange(len(one))] + other[self._random.randrange(len(other)) :]

    def _noise(self) -> bytes:
        magic = self._random.choice((b"", b"RIFF", b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"FORM", b"caff", b".snd"))
        return magic + self._random.randbytes(self._random.randrange(2000))

    def _wav_header(self) -> bytes:
        pick = self._random.choice
        channels, rate, bits, tag = (
            pick(COUNTS),
            pick(RATES),
            pick((0, 1, 8, 16, 24, 32, 64, 255)),
            pick((0, 1, 3, 7, 85)),
        )
        align = pick((0, 1, 2, channels * bits // 8 % 65536))
        head = struct.pack("<HHIIHH", tag, channels, rate, rate * align % 2**32, align, bits)
        data = self._random.randbytes(400)
        chunks = b"fmt " + struct.pack("<I", pick((16, 14, 18, *LENGTHS))) + head
        chunks += b"data" + struct.pack("<I", pick((400, *LENGTHS))) + data
        return b"RIFF" + struct.pack("<I", pick((len(chunks) + 4, *LENGTHS))) + b"WAVE" + chunks

    def _not_finite(self) -> bytes:
        samples = np.zeros(400, np.float32)
        samples[self._random.randrange(400)] = self._random.choice((np.nan, np.inf, -np.inf, 3e38))
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, 16000, format="WAV", subtype="FLOAT")
        return buffer.getvalue()

    def _flac_of_hours(self) -> bytes:
        """A FLAC file whose header promises more samples than there are, up to 2^36."""
        data = bytearray(self._files[3])
        n_samples = self._random.choice((0, 1, 2**30, 2**36 - 1))
        # STREAMINFO's 64 bits of rate, channels, bits and samples stand at byte 18.
        (packed,) = struct.unpack_from(">Q", data, 18)
        struct.pack_into(">Q", data, 18, packed >> 36 << 36 | n_samples)
        return bytes(data)

    def _wav_of_hours(self) -> bytes:
        """Hours of audio in few bytes: at a low rate, in many channels."""
        buffer = io.BytesIO()
        channels = self._random.choice((1, 8, 64))
        silence = np.zeros((200_000 // channels, channels))
        form = ("FLAC", "PCM_16") if channels <= 8 else ("WAV", "PCM_U8")
        soundfile.write(buffer, silence, self._random.choice((100, 1000)), format=form[0], subtype=form[1])
        return buffer.getvalue()

    def _form(self) -> Request:
        pick, boundary = self._random.choice, b"boundary"
        name = pick((b"file", b"audio", b"other", b"", b"\xff\xfe", b"file" * 500))
        filename = pick(
            (b'; filename="a.wav"', b'; filename=""', b"", b'; filename="\xff\x00"', b'; filename="../../x"')
        )
        part = b'Content-Disposition: form-data; name="' + name + b'"' + filename + b"\r\n\r\n" + self.recording()
        parts = [part] * pick((0, 1, 1, 1, 2, 100))
        body = b"".join(b"--" + boundary + b"\r\n" + each + b"\r\n" for each in parts) + b"--" + boundary + b"--\r\n"
        if pick((False, False, True)):
            body = body[: self._random.randrange(len(body))]
        stated = pick(
            ("boundary=boundary", "boundary=boundary", "boundary=other", "boundary=", "", "boundary=" + "x" * 300)
        )
        return Request("/predict", body, f"multipart/form-data; {stated}")

    def _invocation(self) -> Request:
        pick = self._random.choice
        cell = base64.b64encode(self.recording()).decode()
        body = pick(
            (
                f'{{"inputs": ["{cell}"]}}',
                f'{{"dataframe_split": {{"columns": ["audio"], "data": [["{cell}"]]}}}}',
                f'{{"instances": [{{"audio": "{cell[:-1]}"}}]}}',
                '{"inputs": ' + "[" * 5000,
                '{"inputs": [null, true, 1e999, {}]}',
                '{"dataframe_split": {"columns": ["audio", "audio"], "data": [[1]]}}',
                '{"dataframe_records": {"audio": {"0": 1}}}',
                "\x00",
            )
        ).encode()
        if pick((False, False, True)):
            return Request(
                "/invocations", b"PAR1" + self._random.randbytes(200) + b"PAR1", "application/vnd.apache.parquet"
            )
        return Request("/invocations", body, pick(("application/json", "application/json", "text/csv", "")))
