from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from audioml.audio.decode import UNKNOWN_SAMPLES, AudioInfo, decode
from audioml.audio.stream import cut_recording
from audioml.segment.fixed import Params, keeps_whole, make

RATE = 100


def cut(params: Params, n_samples: int, block: int = 1000) -> list[tuple[int, int]]:
    segmenter = make(params, RATE)
    found = []
    for start in range(0, n_samples, block):
        found += segmenter.feed(np.zeros(min(block, n_samples - start), dtype=np.float32))
        assert all(start >= segmenter.keep_from for start, _ in found[len(found) :])
    return found + segmenter.finish()


durations = st.integers(1, 300)


@settings(deadline=None)
@given(durations, st.data(), st.integers(1, 1000), st.integers(1, 400))
def test_windows_cover_every_sample_in_order(length, data, n_samples, block):
    hop = data.draw(st.integers(1, length))
    segments = cut(Params(length_s=length / RATE, hop_s=hop / RATE, min_s=0), n_samples, block)
    assert segments[0][0] == 0
    assert segments[-1][1] == n_samples
    assert [start for start, _ in segments] == [i * hop for i in range(len(segments))]
    assert all(stop - start == length for start, stop in segments[:-1])
    assert all(before[1] >= after[0] for before, after in pairwise(segments))
    # No window adds nothing: all but the last end before the recording does.
    assert all(stop < n_samples for _, stop in segments[:-1])


@settings(deadline=None)
@given(durations, st.integers(0, 1000), st.integers(1, 400), st.integers(1, 400))
def test_the_size_of_blocks_has_no_influence(length, n_samples, one, other):
    params = Params(length_s=length / RATE, min_s=min(0.1, length / RATE))
    assert cut(params, n_samples, one) == cut(params, n_samples, other)


def test_the_last_window_is_shorter():
    assert cut(Params(length_s=1), 250) == [(0, 100), (100, 200), (200, 250)]
    assert cut(Params(length_s=1, hop_s=0.5), 220) == [(0, 100), (50, 150), (100, 200), (150, 220)]


def test_a_last_window_below_the_minimum_is_dropped():
    assert cut(Params(length_s=1, min_s=0.5), 249) == [(0, 100), (100, 200)]
    assert cut(Params(length_s=1, min_s=0.5), 250)[-1] == (200, 250)


def test_a_recording_of_one_window_is_whole():
    params = Params(length_s=1, min_s=0.5)
    assert cut(params, 20) == [(0, 20)]
    assert cut(params, 0) == []
    whole = [keeps_whole(params, AudioInfo("WAV", "PCM_16", RATE, 1, n)) for n in (20, 100, 101, UNKNOWN_SAMPLES)]
    assert whole == [True, True, False, False]


@pytest.mark.parametrize("values", [{"hop_s": 11}, {"min_s": 10.5}])
def test_lengths_must_fit_each_other(values):
    with pytest.raises(ValidationError, match=r"at most length_s \(10\)"):
        Params(**values)


@pytest.mark.parametrize(("container", "channels"), [("WAV", 2), ("FLAC", 1)])
def test_segments_side_by_side_are_the_recording(container, channels, tmp_path):
    audio = np.random.default_rng(3).uniform(-1, 1, (8000 * 7 + 123, channels))
    soundfile.write(tmp_path / "a", audio, 8000, format=container, subtype="PCM_16")
    segments = list(cut_recording(tmp_path / "a", partial(make, Params(length_s=0.8, min_s=0))))
    assert [segment.start_s for segment in segments] == pytest.approx([0.8 * i for i in range(9)])
    joined = np.concatenate([decode(segment.data)[0] for segment in segments], axis=1)
    np.testing.assert_array_equal(joined, decode((tmp_path / "a").read_bytes())[0])
