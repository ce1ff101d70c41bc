from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.audio.decode import decode, decode_with_info, probe
from audioml.audio.stream import AudioFile, cut_recording
from audioml.errors import DecodeError

from ._sounds import CONTAINERS, encode, make_tone


@pytest.fixture(scope="session")
def scratch(tmp_path_factory) -> Path:
    """One file that examples of hypothesis overwrite."""
    return tmp_path_factory.mktemp("stream") / "audio"


def read_blocks(path: Path, duration_s: float = 0.1):
    with AudioFile(path) as file:
        return list(file.blocks(duration_s))


def outcome(function, *args):
    """The samples, or the reason why there are none."""
    try:
        return function(*args)
    except DecodeError as error:
        return error.reason


def assert_as_decode(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    whole, streamed = outcome(decode, data), outcome(read_blocks, path)
    if isinstance(whole, str):
        assert streamed == whole
    else:
        np.testing.assert_array_equal(np.concatenate(streamed, axis=1), whole[0])


class EveryTwoThousand:
    """Cuts [0, 2000), [1500, 3500) and so on; the rest of fewer is one more."""

    def __init__(self, remember: bool = True) -> None:
        self.remember = remember
        self.n_fed = self.start = 0
        self.fed: list[np.ndarray] = []

    @property
    def keep_from(self):
        return self.start

    def feed(self, mono):
        if self.remember:
            self.fed.append(mono)
        self.n_fed += len(mono)
        found = []
        while self.start + 2000 <= self.n_fed:
            found.append((self.start, self.start + 2000))
            self.start += 1500
        return found

    def finish(self):
        return [(self.start, self.n_fed)]


@pytest.mark.parametrize(("container", "subtype"), CONTAINERS)
def test_blocks_are_what_decode_gives(container, subtype, tmp_path):
    data = encode(make_tone(0.55, channels=2), 16000, container, subtype)
    path = tmp_path / "a"
    assert_as_decode(path, data)
    with AudioFile(path) as file:
        assert file.info == probe(data)
        sizes = [block.shape for block in file.blocks(0.1)]
    assert set(sizes[:-1]) == {(2, 1600)}
    assert sizes[-1][1] <= 1600


def test_real_recordings_read_as_decoded(fsdd_dir, esc10_dir):
    for path in [sorted(fsdd_dir.glob("*.wav"))[7], sorted(esc10_dir.rglob("*.ogg"))[7]]:
        np.testing.assert_array_equal(np.concatenate(read_blocks(path, 0.5), axis=1), decode(path.read_bytes())[0])


@pytest.mark.parametrize(("container", "subtype"), CONTAINERS)
@pytest.mark.parametrize("share", [0.6, 0.97])
def test_cut_files_are_truncated(container, subtype, share, tmp_path):
    data = encode(make_tone(), 16000, container, subtype)
    (tmp_path / "a").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DecodeError) as caught:
        read_blocks(tmp_path / "a")
    assert caught.value.reason == "truncated"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"label,path\nyes,a.wav\n" * 50,
        b"\0\0\0\x18ftypM4A " + bytes(200),
        encode(make_tone()[:, :0]),
        encode(make_tone()[:, :0], 16000, "FLAC"),
        encode(make_tone(0.01)),
    ],
    ids=["nothing", "text", "mpeg4", "empty wav", "empty flac", "short"],
)
def test_odd_files_get_the_reason_that_decode_gives(data, tmp_path):
    assert_as_decode(tmp_path / "a", data)


def test_piped_files_are_read_to_their_end(tmp_path):
    flac = bytearray(encode(make_tone(), 16000, "FLAC"))
    # STREAMINFO: 36 bits of total samples end at byte 26 of the file (RFC 9639, section 8.2).
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    wav = bytearray(encode(make_tone()))
    place = wav.index(b"data") + 4
    wav[4:8] = wav[place : place + 4] = b"\xff\xff\xff\xff"
    for data in (flac, wav):
        assert_as_decode(tmp_path / "a", bytes(data))


def test_a_lying_header_is_found_at_the_end(tmp_path):
    data = bytearray(encode(make_tone(), 16000, "FLAC"))
    data[21] |= 0x0F
    data[22:26] = b"\xff\xff\xff\x00"
    assert_as_decode(tmp_path / "a", bytes(data))


def test_a_number_that_is_none_is_placed(tmp_path):
    tone = make_tone(channels=2)
    tone[1, 4000] = np.nan
    (tmp_path / "a").write_bytes(encode(tone, 16000, "WAV", "FLOAT"))
    with AudioFile(tmp_path / "a") as file, pytest.raises(DecodeError, match=r"sample 4000 \(at 0\.250 s\)") as caught:
        assert sum(block.shape[1] for block in file.blocks(0.1)) == 3200
    assert caught.value.reason == "not_finite"


def test_a_missing_file_is_no_decode_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        AudioFile(tmp_path / "a")


def test_descriptors_are_closed_after_faults(tmp_path):
    (tmp_path / "a").write_bytes(encode(make_tone())[:-9])
    held = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(DecodeError):
            AudioFile(tmp_path / "a")
    assert len(list(Path("/proc/self/fd").iterdir())) == held


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CONTAINERS), st.floats(0, 1), st.binary(min_size=1, max_size=40))
def test_damage_gets_the_reason_that_decode_gives(scratch, container, place, noise):
    data = bytearray(encode(make_tone(0.2), 16000, *container))
    start = int(place * (len(data) - len(noise)))
    data[start : start + len(noise)] = noise
    assert_as_decode(scratch, bytes(data))


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([("WAV", "PCM_16"), ("FLAC", "PCM_24"), ("W64", "FLOAT")]), st.integers(1, 3), st.floats(0.01, 2)
)
def test_segments_hold_the_samples_they_name(scratch, container, channels, block_s):
    data = encode(make_tone(0.6, 8000, channels), 8000, *container)
    scratch.write_bytes(data)
    audio, source = decode_with_info(data)
    segmenter = EveryTwoThousand()
    segments = list(cut_recording(scratch, lambda rate: segmenter, block_s))
    np.testing.assert_allclose(np.concatenate(segmenter.fed), audio.mean(axis=0), atol=1e-6)
    assert [segment.start_s for segment in segments] == [0.0, 0.1875, 0.375]
    for segment in segments:
        start = round(segment.start_s * 8000)
        np.testing.assert_array_equal(segment.audio, audio[:, start : start + 2000])
        again, info = decode_with_info(segment.data)
        np.testing.assert_array_equal(again, segment.audio)
        assert info == segment.info
        assert (info.sample_rate, info.channels) == (source.sample_rate, source.channels)


def test_memory_does_not_grow_with_the_recording(tmp_path):
    def peak_bytes(duration_s: int) -> int:
        soundfile.write(tmp_path / "a.wav", np.zeros(duration_s * 8000, dtype=np.int16), 8000)
        tracemalloc.start()
        for _ in cut_recording(tmp_path / "a.wav", lambda rate: EveryTwoThousand(remember=False), 0.5):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    peak_bytes(1)
    assert peak_bytes(60) < 1.2 * peak_bytes(6) < 1e6
