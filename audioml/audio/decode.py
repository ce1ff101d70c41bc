"""Audio files in memory to float32 arrays, with a typed reason for each way in which a file can be bad.

libsndfile (through soundfile) reads WAV, FLAC, Ogg Vorbis, Opus, MP3, AIFF and more by content, so the name of a
file does not matter. It accepts files that were cut short; `audioml.audio.truncation` finds those. An MP3 of
variable rate that lacks the Xing header is read only as far as libsndfile estimates its length. Ordinary 16-bit WAV,
which needs no decoder, is read by `audioml.audio.pcm`: the same samples, bit for bit, and much sooner.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import soundfile

from audioml.audio.pcm import read_pcm_wav
from audioml.audio.truncation import FileBytes, find_truncation, states_length
from audioml.errors import DecodeError

BLOCK_SAMPLES = 1 << 22
"""Samples (over all channels) read at a time: a header that lies about its length cannot fill the memory."""
MAX_SAMPLES = 1 << 26
"""Samples over all channels that are decoded at once: 70 minutes at 16 kHz, 268 MB. Longer recordings are read in a
stream (`audioml.audio.stream`)."""
SAMPLE_RATES = (100, 1_000_000)
"""Lowest and highest rate in Hz that counts as audio: a header of 1 Hz would make hours of a few bytes."""
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


@dataclass(frozen=True)
class Limits:
    """What is decoded at most. More is refused by its header, or as soon as that is seen to have lied."""

    duration_s: float = math.inf
    channels: int = 1024
    sample_rate: int = SAMPLE_RATES[1]
    """In Hz."""

    def check(self, info: AudioInfo) -> None:
        """Refuse audio that its header says is more than this.

        Raises
        ------
        DecodeError
            reason ``too_long``, ``too_many_channels`` or ``rate_too_high``.
        """
        if info.channels > self.channels:
            raise DecodeError("too_many_channels", f"it has {info.channels} channels; at most {self.channels} are read")
        if info.sample_rate > self.sample_rate:
            detail = f"its rate is {info.sample_rate:,} Hz; at most {self.sample_rate:,} Hz are read"
            raise DecodeError("rate_too_high", detail)
        if info.n_samples < UNKNOWN_SAMPLES:
            self.check_samples(info.n_samples, info)

    def check_samples(self, n_samples: int, info: AudioInfo) -> None:
        """Refuse more samples per channel than this. Raises DecodeError, reason ``too_long``."""
        if n_samples > self.duration_s * info.sample_rate:
            seconds = n_samples / info.sample_rate
            raise DecodeError("too_long", f"it has {seconds:,.1f} s or more; at most {self.duration_s:g} s are read")


NO_LIMITS = Limits()


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
        promises more than there is. ``not_finite``: NaN or infinite samples. ``too_long``: more than
        `MAX_SAMPLES`.
    """
    audio, info = decode_with_info(data)
    return audio, info.sample_rate


def decode_with_info(data: bytes, limits: Limits = NO_LIMITS) -> tuple[npt.NDArray[np.float32], AudioInfo]:
    """Decode a whole audio file as `decode` does, and return what its header says as well.

    Raises
    ------
    DecodeError
        As `decode`, and as `Limits.check`.
    """
    if len(data) <= 2 * MAX_SAMPLES and (pcm := read_pcm_wav(data)):
        check_rate(pcm.sample_rate)
        info = AudioInfo("WAV", "PCM_16", pcm.sample_rate, *pcm.audio.shape)
        limits.check(info)
        return pcm.audio, info
    with open_forward(_Buffer(data), data) as file:
        info = describe_file(file)
        check_rate(info.sample_rate)
        limits.check(info)
        if lack := find_truncation(data):
            raise DecodeError("truncated", lack)
        exact = info.n_samples < UNKNOWN_SAMPLES and states_length(data)
        audio = _read_all(file, info, exact, limits)
    n_samples = audio.shape[1]
    check_length(n_samples, info, exact)
    if not info.subtype.startswith("PCM") and not np.isfinite(audio).all():
        n_bad = audio.size - np.count_nonzero(np.isfinite(audio))
        raise DecodeError("not_finite", f"{n_bad} of {audio.size} samples are NaN or infinite")
    return audio, info if n_samples == info.n_samples else replace(info, n_samples=n_samples)


def probe(data: bytes) -> AudioInfo:
    """Read a file's header only.

    Raises
    ------
    DecodeError
        reason ``empty`` (no bytes) or ``unreadable``.
    """
    with open_forward(_Buffer(data), data) as file:
        return describe_file(file)


class _Buffer(io.BytesIO):
    """A seek before the start is refused by staying put; libsndfile notices, and cffi prints no traceback."""

    name = ""
    """Without one soundfile looks for an extension in the object itself, and catches what that raises."""

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if offset >= 0:
            return super().seek(offset, whence)
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self.tell(), io.SEEK_END: self.getbuffer().nbytes}[whence]
        return super().seek(base + offset) if base + offset >= 0 else self.tell()


class ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
    """Reads forward only: soundfile seeks after each read otherwise, which fails in FLAC of unstated length."""

    def seekable(self) -> bool:
        """Return False."""
        return False


def open_forward(file: int | io.BytesIO, data: FileBytes) -> soundfile.SoundFile:
    """Open a file for reading it once, from its start to its end.

    Parameters
    ----------
    file
        A descriptor, which stays open, or a buffer.
    data
        Its bytes, by which its faults are named.

    Raises
    ------
    DecodeError
        reason ``empty`` (no bytes), ``truncated`` or ``unreadable``.
    """
    if not len(data):
        raise DecodeError("empty", "the file has 0 bytes")
    try:
        return ForwardFile(file, closefd=False)
    except soundfile.LibsndfileError as error:
        if lack := find_truncation(data):
            raise DecodeError("truncated", lack) from None
        hint = "; MPEG-4 is not read, convert it: ffmpeg -i IN OUT.flac" if data[4:8] == b"ftyp" else ""
        raise DecodeError("unreadable", f"not a known audio format: {error.error_string}{hint}") from None


def describe_file(file: soundfile.SoundFile) -> AudioInfo:
    """Return what an open file's header says."""
    return AudioInfo(file.format, file.subtype, file.samplerate, file.channels, file.frames)


def name_fault(error: soundfile.LibsndfileError, info: AudioInfo, at_end: bool) -> DecodeError:
    """Return the error for samples that libsndfile cannot read; `at_end` when it had read all bytes by then."""
    if at_end:
        detail = f"the {info.format} header promises {info.n_samples} samples, but the data ends before"
        return DecodeError("truncated", detail)
    return DecodeError("unreadable", f"damaged {info.format} data: {error.error_string}")


def check_rate(sample_rate: int) -> None:
    """Refuse a sample rate, in Hz, that no recording has.

    Raises
    ------
    DecodeError
        reason ``unreadable``.
    """
    if not SAMPLE_RATES[0] <= sample_rate <= SAMPLE_RATES[1]:
        bounds = " to ".join(f"{rate:,}" for rate in SAMPLE_RATES)
        raise DecodeError("unreadable", f"the header says {sample_rate:,} Hz, but recordings have {bounds} Hz")


def check_length(n_samples: int, info: AudioInfo, exact: bool) -> None:
    """Check that as many samples were read as the header promises, if it is `exact`, and at least one.

    Raises
    ------
    DecodeError
        reason ``empty`` or ``truncated``.
    """
    if n_samples == 0:
        raise DecodeError("empty", f"a {info.format} header without samples")
    if exact and n_samples + (MP3_SLACK_SAMPLES if info.format == "MP3" else 0) < info.n_samples:
        raise DecodeError("truncated", f"the header promises {info.n_samples} samples, but only {n_samples} are there")


def _too_long(n_samples: int, info: AudioInfo) -> DecodeError:
    minutes = n_samples / info.sample_rate / 60
    most = MAX_SAMPLES / info.channels / info.sample_rate / 60
    return DecodeError(
        "too_long",
        f"{minutes:.0f} minutes or more, but at this rate and with {info.channels} channel(s) no more than "
        f"{most:.0f} are held in memory at once; cut such recordings into clips with ingest.segment",
    )


def _read_all(file: ForwardFile, info: AudioInfo, exact: bool, limits: Limits) -> npt.NDArray[np.float32]:
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
            limits.check_samples(n_read, info)
            if len(parts[-1]) < block or (exact and n_read >= info.n_samples):
                break
            if n_read * info.channels > MAX_SAMPLES:
                raise _too_long(n_read, info)
    except soundfile.LibsndfileError as error:
        raise name_fault(error, info, file.name.tell() >= file.name.getbuffer().nbytes) from None
    audio = parts[0] if len(parts) == 1 else np.concatenate(parts)
    return np.ascontiguousarray(audio.T)
