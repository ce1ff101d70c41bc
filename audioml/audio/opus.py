"""Raw Opus packets, as a live stream brings them, to samples.

libsndfile decodes Opus, but only in Ogg files. So packets are put into the pages of one (RFC 7845) that has no end yet:
libsndfile reads a page when samples are asked for that it has not decoded, and no more are ever asked for than are
there. So one decoder hears the whole stream, and makes the samples that it makes of the finished file. (A new decoder
for each lot of packets, behind 80 ms of those before, was tried first: its samples are 14 to 32 dB above their error.)
The mono decoder of libopus mixes stereo packets down.
"""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import numpy.typing as npt
import soundfile

from audioml.audio.decode import ForwardFile
from audioml.errors import DecodeError

RATES = (8000, 12000, 16000, 24000, 48000)
"""In Hz, to which a decoder can decode; packets do not say at which rate they were recorded."""
CLOCK_HZ = 48000
"""Of positions in an Ogg Opus file, and of durations of packets here."""
MAX_PACKET_SAMPLES = 5760
"""120 ms: RFC 6716, section 3.2, R5."""
MAX_PACKET_BYTES = 48 * (1275 + 2) + 2
"""As many frames as there can be, each as long as can be and behind its length (RFC 6716, section 3.2, R2 and R5). An
Ogg page holds 255 · 255."""
FIRST_PAGE, LAST_PAGE = 2, 4
END_POSITION = 1 << 50
"""Stated for the end of the file, on the clock: 700 years."""
FILE_BYTES = 1 << 50
"""Stated length of the file."""
BIT_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class OpusDecoder:
    """Decodes the packets of one stream.

    Parameters
    ----------
    sample_rate
        Of the samples to make, in Hz; one of `RATES`.

    Raises
    ------
    DecodeError
        reason ``bad_rate``: it is another one.
    """

    def __init__(self, sample_rate: int = CLOCK_HZ) -> None:
        if sample_rate not in RATES:
            known = ", ".join(map(str, RATES))
            raise DecodeError("bad_rate", f"Opus is decoded to one of {known} Hz, not to {sample_rate}")
        self._rate = sample_rate
        self._pages = _EndlessFile(sample_rate)
        self._file: ForwardFile | None = None
        """Opened with the first packet, as libsndfile wants one then."""

    def decode(self, packet: bytes) -> npt.NDArray[np.float32]:
        """Return the samples of the next packet, float32 ``(samples,)``, mono, in [-1, 1].

        Raises
        ------
        DecodeError
            reason ``unreadable``: it is damaged. The decoder is of no use then.
        """
        duration = packet_samples(packet)
        n_samples = duration * self._rate // CLOCK_HZ
        self._pages.append(packet, duration)
        try:
            if self._file is None:
                self._file = ForwardFile(self._pages, closefd=False)
            samples: npt.NDArray[np.float32] = self._file.read(n_samples, dtype="float32")
        except soundfile.LibsndfileError as error:
            raise DecodeError("unreadable", f"a damaged Opus packet: {error.error_string}") from None
        if len(samples) != n_samples:
            detail = f"a damaged Opus packet: {n_samples} samples should come, but {len(samples)} do"
            raise DecodeError("unreadable", detail)
        return samples


def packet_samples(packet: bytes) -> int:
    """Return the duration of an Opus packet in samples of 48 kHz (RFC 6716, section 3.1).

    Raises
    ------
    DecodeError
        reason ``unreadable``: it breaks a rule of section 3.2 that shows without decoding.
    """
    if not 0 < len(packet) <= MAX_PACKET_BYTES:
        raise DecodeError("unreadable", f"an Opus packet of {len(packet)} bytes; 1 to {MAX_PACKET_BYTES} can be")
    config, code = packet[0] >> 3, packet[0] & 3
    if config < 12:
        frame = (480, 960, 1920, 2880)[config & 3]
    elif config < 16:
        frame = (480, 960)[config & 1]
    else:
        frame = 120 << (config & 3)
    if code == 3 and len(packet) < 2:
        raise DecodeError("unreadable", "an Opus packet that ends before its count of frames")
    n_frames = (1, 2, 2, packet[1] & 63 if code == 3 else 0)[code]
    if not 0 < n_frames * frame <= MAX_PACKET_SAMPLES:
        raise DecodeError("unreadable", f"an Opus packet of {n_frames} frames of {frame / 48:g} ms; 120 ms can be")
    return n_frames * frame


class _EndlessFile:
    """An Ogg Opus file of one channel that is still written: read forward, but for a look at its stated end.

    All samples count (no pre-skip). What was read is forgotten once there is more.
    """

    name = ""
    """Without one soundfile looks for an extension in the object itself, and catches what that raises."""

    def __init__(self, sample_rate: int) -> None:
        head = b"OpusHead" + struct.pack("<BBHIhB", 1, 1, 0, sample_rate, 0, 0)
        tags = b"OpusTags" + struct.pack("<II", 0, 0)
        self._start = 0
        """Where in the file the held pages start."""
        self._held = _write_page(head, FIRST_PAGE, 0, 0) + _write_page(tags, 0, 0, 1)
        self._end = _write_page(b"", LAST_PAGE, END_POSITION, (1 << 32) - 1)
        self._at = 0
        self._clock = 0
        self._n_pages = 2

    def append(self, packet: bytes, duration: int) -> None:
        """Write a packet, which is so long on the clock, into a page."""
        self._clock += duration
        page = _write_page(packet, 0, self._clock, self._n_pages)
        self._n_pages += 1
        self._held, self._start = self._held[self._at - self._start :] + page, self._at

    def read(self, n_bytes: int) -> bytes:
        """Return what is there, at most `n_bytes`."""
        gap = FILE_BYTES - len(self._end) - self._at
        if self._at <= self._start + len(self._held):
            found = self._held[self._at - self._start :][:n_bytes]
        elif gap > 0:
            found = bytes(min(gap, n_bytes))
        else:
            found = self._end[-gap:][:n_bytes]
        self._at += len(found)
        return found

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go there, as `io.BytesIO.seek`."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: FILE_BYTES}[whence]
        return self._at

    def tell(self) -> int:
        """Return where the next read starts."""
        return self._at

    def write(self, _: bytes) -> int:
        """Refuse: soundfile wants the method."""
        raise io.UnsupportedOperation("write")


def _write_page(packet: bytes, flags: int, position: int, number: int) -> bytes:
    """Return an Ogg page of one packet (RFC 3533, section 6)."""
    lacing = b"\xff" * (len(packet) // 255) + bytes([len(packet) % 255])
    header = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, position, 1, number, 0, len(lacing))
    page = header + lacing + packet
    return page[:22] + struct.pack("<I", ogg_checksum(page)) + page[26:]


def ogg_checksum(page: bytes) -> int:
    """Return the CRC of a page whose own field of it is 0: polynomial 0x04C11DB7, highest bit first, from 0.

    zlib's has the same polynomial with the lowest bit first, and inverts before and after.
    """
    reflected = zlib.crc32(page.translate(BIT_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int.from_bytes(reflected.to_bytes(4, "little").translate(BIT_REVERSED), "big")
