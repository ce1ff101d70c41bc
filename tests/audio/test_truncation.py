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
