"""Decoded audio back to a file of its own: what a segment of a recording is stored as.

FLAC holds integer samples without loss; its limits are in RFC 9639: 8 channels (section 9.1.3), and in the streamable
subset that libFLAC writes, rates up to 65,535 Hz or multiples of 10 Hz up to 655,350 Hz (section 9.1.2). All else
becomes WAV with 32-bit floats. Neither holds a time stamp: equal audio makes equal bytes.
"""

from __future__ import annotations

import io
import struct

import numpy as np
import numpy.typing as npt
import soundfile

from audioml.audio.decode import AudioInfo

LOSSY = frozenset({"VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"})
"""Their samples are not exact anyway: 16 bits hold what there is to hear."""
UP_TO_16_BITS = frozenset(
    {
        *("PCM_S8", "PCM_U8", "PCM_16", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "VOX_ADPCM", "NMS_ADPCM_16"),
        *("NMS_ADPCM_24", "NMS_ADPCM_32", "G721_32", "G723_24", "G723_40", "GSM610", "DWVW_12", "DWVW_16"),
        *("DPCM_8", "DPCM_16", "ALAC_16"),
    }
)
UP_TO_24_BITS = frozenset({"PCM_24", "ALAC_20", "ALAC_24", "DWVW_24"})
"""libsndfile's names of encodings whose samples have at most so many bits."""
FLAC_MAX_CHANNELS = 8
FLAC_MAX_ANY_RATE, FLAC_MAX_RATE = 65_535, 655_350
"""In Hz: up to the first any rate, up to the second multiples of 10."""
_WAVE_FORMAT_IEEE_FLOAT = 3


def encode_like(audio: npt.NDArray[np.float32], source: AudioInfo) -> tuple[bytes, npt.NDArray[np.float32], AudioInfo]:
    """Encode samples that were decoded from a file, with no more bits than that file had.

    Parameters
    ----------
    audio
        float32 ``(channels, samples)`` as decoded, at least one sample.
    source
        What the header of the file says that they come from.

    Returns
    -------
    data
        FLAC of 16 bits for sources of at most 16 and for lossy ones, FLAC of 24 bits for sources of 24, else WAV with
        floats, as for what FLAC cannot hold.
    audio
        What `decode` gives for `data`: the samples themselves, but rounded to 16 bits for a lossy source.
    info
        What the header of `data` says.
    """
    n_samples = audio.shape[1]
    bits = _flac_bits(source)
    if bits is None:
        data = encode_wav(audio, source.sample_rate)
        return data, audio, AudioInfo("WAV", "FLOAT", source.sample_rate, source.channels, n_samples)
    full_scale = np.float32(1 << (bits - 1))
    integers = np.rint(np.clip(audio * full_scale, -full_scale, full_scale - 1)).astype(np.int32)
    # libsndfile takes the upper bits of what it is given.
    aligned = integers.astype(np.int16) if bits == 16 else integers << (32 - bits)
    buffer = io.BytesIO()
    subtype = f"PCM_{bits}"
    soundfile.write(buffer, aligned.T, source.sample_rate, format="FLAC", subtype=subtype)
    exact = integers.astype(np.float32) / full_scale
    return buffer.getvalue(), exact, AudioInfo("FLAC", subtype, source.sample_rate, source.channels, n_samples)


def _flac_bits(source: AudioInfo) -> int | None:
    """Return how many bits a FLAC file of this source needs, or None where FLAC cannot hold it."""
    rate = source.sample_rate
    if source.channels > FLAC_MAX_CHANNELS or rate > FLAC_MAX_RATE or (rate > FLAC_MAX_ANY_RATE and rate % 10):
        return None
    if source.subtype in UP_TO_16_BITS or source.subtype in LOSSY:
        return 16
    return 24 if source.subtype in UP_TO_24_BITS else None


def encode_wav(audio: npt.NDArray[np.float32], sample_rate: int) -> bytes:
    """Return float32 samples ``(channels, samples)`` as a WAV file of floats, which clips nothing.

    RIFF/WAVE (Microsoft, 1994), written here as libsndfile puts the time into its PEAK chunk.
    """
    channels, n_samples = audio.shape
    samples = np.ascontiguousarray(audio.T, dtype="<f4").tobytes()
    block = 4 * channels
    layout = struct.pack("<HHIIHHH", _WAVE_FORMAT_IEEE_FLOAT, channels, sample_rate, sample_rate * block, block, 32, 0)
    chunks = ((b"fmt ", layout), (b"fact", struct.pack("<I", n_samples)), (b"data", samples))
    body = b"".join(name + struct.pack("<I", len(content)) + content for name, content in chunks)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body
