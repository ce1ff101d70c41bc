"""Find files that were cut short from what their containers promise.

libsndfile reads a WAV file whose data chunk ends early as if it were whole, so containers that state the length of
their data are compared with the bytes that are there. Sources: RIFF/WAVE (Microsoft, 1991), EBU Tech 3306 (RF64),
Wave64 (Sonic Foundry), AIFF 1.3 and CAF (Apple), Sun .au, RFC 3533 (Ogg), the Xing header of VBR MP3.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Protocol

UNKNOWN_SIZE = 0x7FFFF000
"""Writers that cannot seek back (pipes) leave 0xFFFFFFFF or 0x7FFFF000 in place of a size: nothing is promised."""
XING_SEARCH_BYTES = 4096
"""The Xing header stands in the first MP3 frame, after ID3 tags."""
OGG_HEADER_BYTES = 27 + 255
"""The largest header of an Ogg page."""


class FileBytes(Protocol):
    """A whole file: bytes, mapped, or a view that reads what it is asked for. Only its length and slices are used."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> bytes: ...


def find_truncation(data: FileBytes) -> str | None:
    """Return what is missing from a file that was cut short, or None if nothing is known to be missing.

    FLAC gives None here: its decoder notices a lack itself.
    """
    magic = data[:4]
    if magic in (b"RIFF", b"RF64", b"RIFX") and data[8:12] == b"WAVE":
        return _check_chunks(data, _iff_chunks(data, ">" if magic == b"RIFX" else "<"), b"data")
    if magic == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        return _check_chunks(data, _iff_chunks(data, ">"), b"SSND")
    if magic == b"riff":
        return _check_chunks(data, _wave64_chunks(data), b"data")
    if magic == b"caff":
        return _check_chunks(data, _caf_chunks(data), b"data")
    if magic == b".snd" and len(data) >= 12:
        offset, size = struct.unpack(">II", data[4:12])
        return _compare(size, len(data) - offset, "AU data")
    if magic == b"OggS":
        return _check_ogg_pages(data)
    return _check_xing(data)


def states_length(data: FileBytes) -> bool:
    """Tell whether the header states how many samples there are: False for MP3 without a Xing header's count."""
    if data[:3] == b"ID3" or data[:1] == b"\xff":
        found = _find_xing(data)
        return found is not None and found[1] is not None
    return True


def _compare(promised: int, there: int, what: str) -> str | None:
    if there >= promised or promised >= UNKNOWN_SIZE:
        return None
    return f"the header promises {promised} bytes of {what}, but {max(there, 0)} are there"


def _check_chunks(data: FileBytes, chunks: Iterator[tuple[bytes, int, int]], audio_chunk: bytes) -> str | None:
    """Walk (name, start, size) of chunks up to the one that holds the audio."""
    for name, start, size in chunks:
        if name == audio_chunk:
            return _compare(size, len(data) - start, f"{name.decode()} chunk")
    return f"the file ends after {len(data)} bytes, before its {audio_chunk.decode()} chunk"


def _iff_chunks(data: FileBytes, order: str) -> Iterator[tuple[bytes, int, int]]:
    """RIFF, RF64 and AIFF: 4 bytes name, 4 bytes size, padded to even; RF64 has the real size in `ds64`."""
    position, size_64 = 12, UNKNOWN_SIZE
    while position + 8 <= len(data):
        name, size = struct.unpack(f"{order}4sI", data[position : position + 8])
        start = position + 8
        if name == b"ds64" and start + 16 <= len(data):
            (size_64,) = struct.unpack("<Q", data[start + 8 : start + 16])
        yield name, start, size_64 if size == 0xFFFFFFFF and name == b"data" else size
        position = start + size + size % 2


def _wave64_chunks(data: FileBytes) -> Iterator[tuple[bytes, int, int]]:
    """Wave64: 16 bytes name, 8 bytes size that counts these 24, padded to 8."""
    position = 40
    while position + 24 <= len(data):
        name, size = struct.unpack("<4s12xQ", data[position : position + 24])
        yield name, position + 24, max(size - 24, 0)
        position += max((size + 7) // 8 * 8, 24)


def _caf_chunks(data: FileBytes) -> Iterator[tuple[bytes, int, int]]:
    """CAF: 4 bytes name, 8 bytes signed size, -1 if unknown."""
    position = 8
    while position + 12 <= len(data):
        name, size = struct.unpack(">4sq", data[position : position + 12])
        yield name, position + 12, size
        position += 12 + max(size, 0)


def _check_ogg_pages(data: FileBytes) -> str | None:
    """Walk Ogg pages; the last must be whole. A missing end-of-stream flag alone is common and harmless."""
    position = 0
    while (head := data[position : position + OGG_HEADER_BYTES])[:4] == b"OggS":
        n_segments = head[26] if len(head) > 26 else None
        if n_segments is None or position + 27 + n_segments > len(data):
            return f"an Ogg page header at byte {position} is cut off"
        body = position + 27 + n_segments
        size = sum(head[27 : 27 + n_segments])
        if lack := _compare(size, len(data) - body, f"Ogg page at byte {position}"):
            return lack
        position = body + size
    return None


def _check_xing(data: FileBytes) -> str | None:
    found = _find_xing(data)
    if found is None or found[2] is None:
        return None
    return _compare(found[2], len(data) - found[0], "MP3 data")


def _find_xing(data: FileBytes) -> tuple[int, int | None, int | None] | None:
    """Return (start of the first MP3 frame, frames, bytes) as a Xing or Info header states them."""
    start = 0
    if data[:3] == b"ID3" and len(data) > 10:
        # The tag's size has 7 bits in each byte (ID3v2.4, section 3.1).
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    elif data[:1] != b"\xff":
        return None
    head = data[start : start + XING_SEARCH_BYTES]
    places = [place for place in (head.find(b"Xing"), head.find(b"Info")) if place >= 0]
    if not places or len(head) < min(places) + 16:
        return None
    flags, first, second = struct.unpack_from(">III", head, min(places) + 4)
    frames = first or None if flags & 1 else None
    size = (second if flags & 1 else first) or None if flags & 2 else None
    return start, frames, size
