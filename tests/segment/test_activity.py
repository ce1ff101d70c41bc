from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from audioml.audio.decode import AudioInfo
from audioml.audio.noise import make_noise
from audioml.audio.stream import cut_recording
from audioml.segment.activity import Params, keeps_whole, make

RATE = 8000
FRAME_S = 0.02


def noise(duration_s: float, level_dbfs: float, seed: int = 0):
    samples = np.random.default_rng(seed).standard_normal(round(duration_s * RATE))
    return (samples * 10 ** (level_dbfs / 20)).astype(np.float32)


def add_bursts(audio, bursts, level_dbfs=-20.0):
    for start_s, stop_s in bursts:
        start = round(start_s * RATE)
        burst = noise(stop_s - start_s, level_dbfs, seed=start)
        audio[start : start + len(burst)] += burst
    return audio


def find(audio, params=None, block: int = 12_345):
    """Segments in seconds."""
    segmenter = make(params or Params(), RATE)
    found = []
    keep_from = 0
    for start in range(0, len(audio), block):
        new = segmenter.feed(audio[start : start + block])
        assert all(segment[0] >= keep_from for segment in new)
        assert segmenter.keep_from >= keep_from
        keep_from = segmenter.keep_from
        found += new
    last = segmenter.finish()
    assert all(segment[0] >= keep_from for segment in last)
    assert all(0 <= start < stop <= len(audio) for start, stop in found + last)
    return [(start / RATE, stop / RATE) for start, stop in found + last]


def assert_found(found, bursts, pad_s, end_s):
    assert len(found) == len(bursts), found
    for (start, stop), (burst_start, burst_stop) in zip(found, bursts, strict=True):
        assert max(0, burst_start - pad_s - FRAME_S) <= start <= max(0, burst_start - pad_s + 1e-9)
        assert min(end_s, burst_stop + pad_s - 1e-9) <= stop <= min(end_s, burst_stop + pad_s + FRAME_S)


@pytest.mark.parametrize("background_dbfs", [-100.0, -60.0, -40.0])
def test_bursts_are_found_within_a_frame(background_dbfs):
    bursts = [(0.0, 0.7), (2.0, 2.5), (10.013, 11.2), (12.0, 12.15), (20.0, 28.0), (41.5, 42.0)]
    audio = add_bursts(noise(42.0, background_dbfs), bursts)
    assert_found(find(audio), bursts, 0.1, 42.0)


def test_padding_is_as_asked():
    bursts = [(2.0, 2.5), (4.0, 5.0)]
    audio = add_bursts(noise(10.0, -60), bursts)
    for pad_s in (0.0, 0.05, 0.3):
        assert_found(find(audio, Params(pad_s=pad_s, min_silence_s=0.6)), bursts, pad_s, 10.0)


def test_short_pauses_are_bridged_and_short_sounds_dropped():
    audio = add_bursts(noise(20.0, -60), [(2.0, 2.5), (2.7, 3.0), (8.0, 8.05), (12.0, 12.1), (12.5, 13.0)])
    assert_found(find(audio), [(2.0, 3.0), (12.0, 12.1), (12.5, 13.0)], 0.1, 20.0)
    assert_found(find(audio, Params(min_active_s=0.2)), [(2.0, 3.0), (12.5, 13.0)], 0.1, 20.0)
    assert_found(find(audio, Params(min_silence_s=0.5)), [(2.0, 3.0), (12.0, 13.0)], 0.1, 20.0)


def test_without_a_least_pause_every_gap_ends_a_segment():
    audio = add_bursts(noise(5.0, -70), [(1.0, 2.0), (2.06, 3.0)])
    found = find(audio, Params(min_silence_s=0, pad_s=0, min_active_s=0))
    assert_found(found, [(1.0, 2.0), (2.06, 3.0)], 0.0, 5.0)


@pytest.mark.parametrize(
    "audio", [np.zeros(30 * RATE, np.float32), np.full(30 * RATE, 0.3, np.float32), noise(0.01, -9)]
)
def test_silence_dc_and_less_than_a_frame_hold_nothing(audio):
    assert find(audio) == []


@pytest.mark.parametrize(("colour", "threshold_db"), [("white", 5.0), ("pink", 10.0), ("brown", 25.0)])
def test_steady_noise_holds_nothing(colour, threshold_db):
    audio = 0.02 * make_noise(60 * RATE, colour, np.random.default_rng(1))
    assert find(audio, Params(threshold_db=threshold_db)) == []


def test_a_background_that_changes_is_followed():
    levels = [-60.0, -35.0, -55.0, -30.0]
    audio = np.concatenate([noise(20.0, level, seed) for seed, level in enumerate(levels)])
    assert find(audio) == []
    drift = 10 ** (np.linspace(-60, -25, 60 * RATE) / 20)
    drifting = (noise(60.0, 0) * drift).astype(np.float32)
    assert find(drifting) == []
    bursts = [(9.0, 9.5), (30.0, 31.0), (48.0, 49.0), (70.0, 71.0)]
    assert_found(find(add_bursts(audio, bursts, -8.0)), bursts, 0.1, 80.0)


def test_dropouts_do_not_hide_the_background():
    audio = add_bursts(noise(30.0, -45), [(10.0, 10.5)])
    audio[15 * RATE : 15 * RATE + 2000] = 0
    assert_found(find(audio), [(10.0, 10.5)], 0.1, 30.0)


def test_quiet_sounds_are_heard_only_where_allowed():
    audio = add_bursts(noise(10.0, -100), [(4.0, 5.0)], -70)
    assert find(audio) == []
    assert_found(find(audio, Params(min_level_dbfs=-80)), [(4.0, 5.0)], 0.1, 10.0)


def test_long_activity_is_cut_where_it_is_quietest():
    audio = add_bursts(noise(30.0, -60), [(2.0, 10.0)])
    for dip_s in (4.6, 7.3):
        audio[round(dip_s * RATE) : round((dip_s + 0.1) * RATE)] *= 0.2
    params = Params(max_s=3.0)
    found = find(audio, params)
    assert found[0][0] == pytest.approx(1.9, abs=FRAME_S)
    assert 4.6 <= found[0][1] <= 4.7
    assert 7.3 <= found[1][1] <= 7.4
    assert all(before[1] == after[0] for before, after in pairwise(found))
    assert found[-1][1] == pytest.approx(10.1, abs=FRAME_S)
    assert all(stop - start <= 3.0 for start, stop in found)


def test_an_end_in_mid_sound_is_kept_to_the_last_sample():
    audio = np.append(add_bursts(noise(5.0, -60), [(4.5, 5.0)]), noise(0.007, -20))
    assert find(audio, Params(pad_s=0))[-1][1] == len(audio) / RATE


@st.composite
def recordings(draw):
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    audio = noise(draw(st.floats(0, 20)), -60)
    for _ in range(draw(st.integers(0, 12))):
        start, length = rng.integers(0, len(audio) + 1), rng.integers(1, 3 * RATE)
        audio[start : start + length] *= rng.choice([0.0, 0.5, 3.0, 30.0, 100.0])
    return audio


@settings(max_examples=40, deadline=None)
@given(recordings(), st.integers(1000, 100_000), st.floats(1, 4), st.floats(0, 1))
def test_laws(audio, block, background_s, min_silence_s):
    params = Params(background_s=background_s, min_silence_s=min_silence_s, pad_s=min_silence_s / 2, max_s=2.0)
    found = find(audio, params, len(audio) or 1)
    assert find(audio, params, block) == found
    assert all(before[1] <= after[0] for before, after in pairwise(found))
    assert all(0.1 * RATE <= round((stop - start) * RATE) <= 2.0 * RATE for start, stop in found)


def test_memory_is_bounded_in_endless_sound():
    segmenter = make(Params(background_s=2, max_s=4), RATE)
    rng = np.random.default_rng(0)
    for i in range(200):
        # Half a second loud, 50 ms quiet: one activity without an end.
        audio = np.concatenate([noise(0.45, -20, i), noise(0.05 + 0.01 * rng.random(), -70, i)])
        segmenter.feed(audio)
        assert (segmenter._levels.n_samples - segmenter.keep_from) / RATE < 2 + 4 + 1
        assert len(segmenter._runs._history_db) <= 500


def test_only_listening_tells():
    assert not keeps_whole(Params(), AudioInfo("WAV", "PCM_16", RATE, 1, 10))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pad_s": 0.2}, "at most half of min_silence_s"),
        ({"max_s": 0.5}, "min_silence_s is 0.3, but at most half of max_s"),
        ({"max_s": 2, "min_active_s": 1.5}, "min_active_s is 1.5, but at most half of max_s"),
    ],
)
def test_lengths_must_fit_each_other(values, message):
    with pytest.raises(ValidationError, match=message):
        Params(**values)


def test_stereo_is_heard_in_both_channels_and_cut_in_both(tmp_path):
    left, right = add_bursts(noise(10, -70), [(2.0, 3.0)]), add_bursts(noise(10, -70, 1), [(6.0, 7.0)])
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), RATE)
    segments = list(cut_recording(tmp_path / "a.wav", partial(make, Params())))
    ends = [(s.start_s, s.start_s + s.audio.shape[1] / RATE) for s in segments]
    assert_found(ends, [(2.0, 3.0), (6.0, 7.0)], 0.1, 10.0)
    for segment, channel in zip(segments, (left, right), strict=True):
        start = round(segment.start_s * RATE)
        which = 0 if channel is left else 1
        np.testing.assert_allclose(
            segment.audio[which], channel[start : start + segment.audio.shape[1]], atol=1 / 32768
        )
