"""Audio files in memory to float32 arrays, with a typed reason for each way in which a file can be bad.

libsndfile (through soundfile) reads WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF and more by content, so the name of a
file does not matter. It accepts files that were cut short; `audioml.audio.truncation` finds those. An MP3 of
variable rate that lacks the Xing header is read only as far as libsndfile estimates its length.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import soundfile

from audioml.audio.truncation import find_truncation, states_length
from audioml.errors import DecodeError

BLOCK_SAMPLES = 1 << 22
"""Samples (over all channels) read at a time: a header that lies about its length cannot fill the memory."""
UNKNOWN_SAMPLES = 1 << 60
"""libsndfile gives the largest count there is for streams that don't state one, such as piped FLAC."""
MP3_SLACK_SAMPLES = 1152
"""Encoders differ in whether the frame that holds the length counts itself."""


@dataclass(frozen=True)
class AudioInfo:
    """What a file's header says."""

    format: str
    """libsndfile's major format, such as ``WAV`` or ``OGG``."""
    subtype: str
    """libsndfile's encoding, such as ``PCM_16`` or ``VORBIS``."""
    sample_rate: int
    """In Hz."""
    channels: int
    n_samples: int
    """Samples per channel."""


def decode(data: bytes) -> tuple[npt.NDArray[np.float32], int]:
    """Decode a whole audio file.

    Parameters
    ----------
    data
        The file's bytes; the format is found from the content.

    Returns
    -------
    audio
        float32 ``(channels, samples)``; integer formats are in [-1, 1].
    sample_rate
        In Hz.

    Raises
    ------
    DecodeError
        reason ``empty``: no bytes or no samples. ``unreadable``: not audio, or damaged. ``truncated``: the header
        promises more than there is. ``not_finite``: NaN or infinite samples.
    """
    audio, info = decode_with_info(data)
    return audio, info.sample_rate


def decode_with_info(data: bytes) -> tuple[npt.NDArray[np.float32], AudioInfo]:
    """Decode a whole audio file as `decode` does, and return what its header says as well."""
    with _open(data) as file:
        info = _describe(file)
        if lack := find_truncation(data):
            raise DecodeError("truncated", lack)
        exact = info.n_samples < UNKNOWN_SAMPLES and states_length(data)
        audio = _read_all(file, info, exact)
    n_samples = audio.shape[1]
    if n_samples == 0:
        raise DecodeError("empty", f"a {info.format} header without samples")
    if exact and n_samples + (MP3_SLACK_SAMPLES if info.format == "MP3" else 0) < info.n_samples:
        raise DecodeError("truncated", f"the header promises {info.n_samples} samples, but only {n_samples} are there")
    finite = np.isfinite(audio)
    if not finite.all():
        raise DecodeError("not_finite", f"{int(audio.size - finite.sum())} of {audio.size} samples are NaN or infinite")
    return audio, replace(info, n_samples=n_samples)


def probe(data: bytes) -> AudioInfo:
    """Read a file's header only.

    Raises
    ------
    DecodeError
        reason ``empty`` (no bytes) or ``unreadable``.
    """
    with _open(data) as file:
        return _describe(file)


class _Buffer(io.BytesIO):
    """A seek before the start is refused by staying put; libsndfile notices, and cffi prints no traceback."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self.getbuffer().nbytes}[whence]
        return super().seek(base + offset) if base + offset >= 0 else self.tell()


class _File(soundfile.SoundFile):  # type: ignore[misc]
    """Reads forward only: soundfile seeks after each read otherwise, which fails in FLAC of unstated length."""

    def seekable(self) -> bool:
        return False


def _open(data: bytes) -> _File:
    if not data:
        raise DecodeError("empty", "the file has 0 bytes")
    try:
        return _File(_Buffer(data))
    except soundfile.LibsndfileError as error:
        if lack := find_truncation(data):
            raise DecodeError("truncated", lack) from None
        hint = "; MPEG-4 is not read, convert it: ffmpeg -i IN OUT.flac" if data[4:8] == b"ftyp" else ""
        raise DecodeError("unreadable", f"not a known audio format: {error.error_string}{hint}") from None


def _describe(file: soundfile.SoundFile) -> AudioInfo:
    return AudioInfo(file.format, file.subtype, file.samplerate, file.channels, file.frames)


def _read_all(file: _File, info: AudioInfo, exact: bool) -> npt.NDArray[np.float32]:
    """Read in blocks until a short one, or until the header's length where that is exact."""
    block = max(1, BLOCK_SAMPLES // info.channels)
    if exact:
        block = min(block, max(info.n_samples, 1))
    parts: list[npt.NDArray[np.float32]] = []
    n_read = 0
    try:
        while True:
            parts.append(file.read(block, dtype="float32", always_2d=True))
            n_read += len(parts[-1])
            if len(parts[-1]) < block or (exact and n_read >= info.n_samples):
                break
    except soundfile.LibsndfileError as error:
        if file.name.tell() >= file.name.getbuffer().nbytes:
            detail = f"the {info.format} header promises {info.n_samples} samples, but the data ends before"
            raise DecodeError("truncated", detail) from None
        raise DecodeError("unreadable", f"damaged {info.format} data: {error.error_string}") from None
    audio = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return np.ascontiguousarray(audio.T)
