import mmap

import pytest

from audioml.audio.truncation import find_truncation, states_length

from ._sounds import CONTAINERS, encode, make_tone


@pytest.mark.parametrize(("container", "subtype"), CONTAINERS)
def test_whole_files_lack_nothing(container, subtype):
    assert find_truncation(encode(make_tone(), 16000, container, subtype)) is None


@pytest.mark.parametrize(("container", "subtype"), [c for c in CONTAINERS if c[0] != "FLAC"])
def test_one_byte_less_is_noticed(container, subtype):
    data = encode(make_tone(), 16000, container, subtype)
    if container == "CAF":
        # libsndfile pads CAF files behind the data.
        data = data[: data.index(b"data") + 12 + 32000]
    lack = find_truncation(data[:-1])
    assert lack is not None
    assert "promises" in lack


@pytest.mark.parametrize(("container", "subtype"), CONTAINERS)
def test_a_mapped_file_is_judged_as_its_bytes_are(tmp_path, container, subtype):
    whole = encode(make_tone(), 16000, container, subtype)
    for data in (whole, whole[:-1], whole[: len(whole) // 2]):
        path = tmp_path / "file"
        path.write_bytes(data)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert find_truncation(mapped) == find_truncation(data)
            assert states_length(mapped) == states_length(data)


def test_says_how_much_is_there():
    data = encode(make_tone())
    assert find_truncation(data[:-1000]) == "the header promises 32000 bytes of data chunk, but 31000 are there"


def test_a_header_alone_is_cut():
    assert "before its data chunk" in (find_truncation(encode(make_tone())[:30]) or "")


def test_other_bytes_promise_nothing():
    assert find_truncation(b"hello") is None
    assert find_truncation(b"") is None
    assert states_length(b"RIFF....WAVE")
    assert not states_length(b"\xff\xfb" + bytes(500))
