import io

import numpy as np
import pytest
import soundfile

from audioml.audio.decode import decode
from audioml.audio.prepare import prepare_audio
from audioml.clean import remove_dc
from audioml.clean._chain import load_chain
from audioml.errors import DecodeError, ParamsError
from audioml.features import _device, logmel, mfcc, waveform
from audioml.inference import extraction
from audioml.inference.extraction import Extractor

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")
CHAIN = load_chain([("remove_dc", remove_dc.Params())])
PLUGINS = {"logmel": logmel, "mfcc": mfcc, "waveform": waveform}


@pytest.fixture(scope="module")
def clips(fsdd_dir, esc10_dir):
    """Short and long recordings in turn, by name."""
    paths = [*sorted(fsdd_dir.glob("*.wav"))[::500], *sorted(esc10_dir.glob("*/*.ogg"))[::200]]
    return [(path.stem, path.read_bytes()) for path in paths]


def write_float(samples) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16000, format="WAV", subtype="FLOAT")
    return buffer.getvalue()


TOO_LOUD = write_float(np.full(16000, 1e30, np.float32) * np.sin(np.arange(16000)))


@pytest.mark.parametrize("name", PLUGINS)
@pytest.mark.parametrize("length", ["pad", "segment"])
def test_one_clip_and_many_give_the_same_bytes(clips, name, length):
    params = PLUGINS[name].Params(length=length, duration_s=0.7)
    extractor = Extractor(name, params, CHAIN)
    (block,) = extractor.extract_blocks(clips)
    features, offsets_s, clip_ids = [], [], []
    for clip_id, data in clips:
        one, offsets = extractor.extract(data)
        windows, expected_s = prepare_audio(*decode(data), params, CHAIN)
        assert one.tobytes() == PLUGINS[name].extract(params, windows).tobytes()
        np.testing.assert_array_equal(offsets, expected_s)
        features.append(one)
        offsets_s.append(offsets)
        clip_ids += [clip_id] * len(one)
    assert block.clip_ids == clip_ids
    np.testing.assert_array_equal(block.offsets_s, np.concatenate(offsets_s))
    assert block.features.tobytes() == np.concatenate(features).tobytes()
    assert block.features.shape == (len(clip_ids), *PLUGINS[name].feature_shape(params))
    assert block.failures == []


@pytest.mark.parametrize("group_bytes", [1, 100_000, 10_000_000])
@pytest.mark.parametrize("block_bytes", [1, 50_000, 150_000])
def test_blocks_are_bounded_and_hold_every_clip_once(clips, monkeypatch, group_bytes, block_bytes):
    extractor = Extractor("logmel", logmel.Params(length="segment", duration_s=0.5))
    (whole,) = extractor.extract_blocks(clips)
    monkeypatch.setattr(extraction, "GROUP_BYTES", group_bytes)
    monkeypatch.setattr(extraction, "BLOCK_BYTES", block_bytes)
    blocks = list(extractor.extract_blocks(clips))
    assert len(blocks) > 1
    assert [clip_id for block in blocks for clip_id in block.clip_ids] == whole.clip_ids
    assert b"".join(block.features.tobytes() for block in blocks) == whole.features.tobytes()
    assert not any(set(one.clip_ids) & set(other.clip_ids) for one in blocks for other in blocks if one is not other)
    for block in blocks:
        last = block.clip_ids.count(block.clip_ids[-1])
        assert len(block.clip_ids) == last or block.features[:-last].nbytes < block_bytes


@pytest.mark.parametrize("name", PLUGINS)
def test_windows_of_their_own_length(clips, monkeypatch, name):
    monkeypatch.setattr(extraction, "GROUP_BYTES", 200_000)
    extractor = Extractor(name, PLUGINS[name].Params(length="whole"), CHAIN)
    (block,) = extractor.extract_blocks([*clips, ("bad", b"no audio"), *clips])
    assert [failure.clip_id for failure in block.failures] == ["bad"]
    assert len(block.features) == 2 * len(clips) == len(block.offsets_s)
    for features, (_, data) in zip(block.features, [*clips, *clips], strict=True):
        assert features.tobytes() == extractor.extract(data)[0][0].tobytes()
    assert len({features.shape for features in block.features}) > 1


@pytest.mark.parametrize("length", ["segment", "whole"])
def test_a_bad_clip_is_a_failure_and_the_rest_is_done(clips, length):
    extractor = Extractor("logmel", logmel.Params(length=length, duration_s=0.4))
    (expected,) = extractor.extract_blocks(clips)
    mixed = [("text", b"no audio"), clips[0], ("loud", TOO_LOUD), ("cut", clips[1][1][:-99]), *clips[1:], ("none", b"")]
    (block,) = extractor.extract_blocks(mixed)
    assert [(failure.clip_id, failure.reason) for failure in block.failures] == [
        ("text", "unreadable"),
        ("cut", "truncated"),
        ("none", "empty"),
        ("loud", "not_finite"),
    ]
    assert all(failure.detail for failure in block.failures)
    assert block.clip_ids == expected.clip_ids
    np.testing.assert_array_equal(block.offsets_s, expected.offsets_s)
    for features, others in zip(block.features, expected.features, strict=True):
        assert features.tobytes() == others.tobytes()


def test_clips_that_all_fail_are_told():
    (block,) = Extractor("logmel", logmel.Params()).extract_blocks([("a", b"x"), ("b", TOO_LOUD)])
    assert [failure.clip_id for failure in block.failures] == ["a", "b"]
    assert block.clip_ids == []
    assert block.features.shape == (0, 40, 101)


def test_no_clips_give_no_blocks():
    assert list(Extractor("logmel", logmel.Params()).extract_blocks([])) == []


def test_one_bad_clip_is_an_error():
    extractor = Extractor("logmel", logmel.Params())
    with pytest.raises(DecodeError, match="unreadable"):
        extractor.extract(b"no audio")
    with pytest.raises(DecodeError, match="not_finite"):
        extractor.extract(TOO_LOUD)


def test_blocks_come_from_the_device_that_params_say(clips, monkeypatch):
    used = []

    def on_device(plugin, params, windows, out, device):
        used.append(device)
        _device.extract_on_device(plugin, params, windows, out, "cpu")

    monkeypatch.setattr(_device, "has_gpu", lambda: True)
    monkeypatch.setattr(extraction, "extract_on_device", on_device)
    (theirs,) = Extractor("mfcc", mfcc.Params()).extract_blocks(clips)
    (ours,) = Extractor("mfcc", mfcc.Params(device="cpu")).extract_blocks(clips)
    assert used == ["cuda"]
    np.testing.assert_allclose(ours.features, theirs.features, rtol=0, atol=1e-3)


def test_a_missing_gpu_is_an_error(monkeypatch):
    monkeypatch.setattr(_device, "has_gpu", lambda: False)
    with pytest.raises(ParamsError, match="device is gpu"):
        list(Extractor("logmel", logmel.Params(device="gpu")).extract_blocks([("a", TOO_LOUD)]))
