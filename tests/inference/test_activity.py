from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioml.errors import ParamsError
from audioml.inference.activity import EndPointer, EndPointing

RATE = 8000
FRAME_S = 0.02


def noise(duration_s: float, level_dbfs: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).standard_normal(round(duration_s * rate))
    return (samples * 10 ** (level_dbfs / 20)).astype(np.float32)


def with_bursts(
    duration_s: float, bursts: list[tuple[float, float]], background_dbfs: float = -70.0, rate: int = RATE
) -> np.ndarray:
    audio = noise(duration_s, background_dbfs, rate)
    for start_s, stop_s in bursts:
        start = round(start_s * rate)
        burst = noise(stop_s - start_s, -20.0, rate, seed=1)
        audio[start : start + len(burst)] += burst
    return audio


def find(
    audio: np.ndarray, params: EndPointing | None = None, size: int = 160, rate: int = RATE
) -> list[tuple[float, float]]:
    """Utterances in seconds."""
    pointer, found, keep_from = EndPointer(params or EndPointing(), rate), list[tuple[int, int]](), 0
    for start in range(0, len(audio), size):
        new = pointer.feed(audio[start : start + size])
        assert all(begin >= keep_from for begin, _ in new)
        assert pointer.keep_from >= keep_from
        keep_from = pointer.keep_from
        found += new
    return [(start / rate, stop / rate) for start, stop in found + pointer.finish()]


@pytest.mark.parametrize("rate", [4000, 8000, 11025, 16000, 44100, 48000])
@pytest.mark.parametrize("background_dbfs", [-100.0, -60.0, -40.0])
def test_bursts_are_found_with_their_pads(rate: int, background_dbfs: float) -> None:
    bursts = [(0.0, 0.6), (2.0, 2.5), (4.0, 4.15), (6.0, 7.5), (9.6, 10.0)]
    found = find(with_bursts(10.0, bursts, background_dbfs, rate), rate=rate)
    assert len(found) == len(bursts)
    for (start_s, stop_s), (from_s, to_s) in zip(found, bursts, strict=True):
        assert max(0.0, from_s - 0.2 - FRAME_S) <= start_s <= max(0.0, from_s - 0.2) + 1e-9
        assert min(10.0, to_s + 0.2) - 1e-9 <= stop_s <= min(10.0, to_s + 0.2 + FRAME_S) + 0.01


def test_an_utterance_is_known_when_so_much_silence_has_followed() -> None:
    for end_silence_s in (0.4, 1.0):
        pointer = EndPointer(EndPointing(end_silence_s=end_silence_s), RATE)
        audio = with_bursts(5.0, [(1.0, 1.5)])
        ends = [i for i in range(0, len(audio), 80) if pointer.feed(audio[i : i + 80])]
        assert len(ends) == 1
        assert 1.5 + end_silence_s <= (ends[0] + 80) / RATE <= 1.5 + end_silence_s + 2 * FRAME_S


def test_pauses_within_an_utterance_and_clicks_between_are_passed_over() -> None:
    audio = with_bursts(8.0, [(1.0, 1.4), (1.7, 2.0), (4.0, 4.008), (5.0, 5.3)])
    found = find(audio)
    assert [(round(start, 1), round(stop, 1)) for start, stop in found] == [(0.8, 2.2), (4.8, 5.5)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5000), max_size=30), st.integers(0, 100))
def test_what_is_found_depends_on_no_part(sizes: list[int], seed: int) -> None:
    generator = np.random.default_rng(seed)
    starts_s = np.cumsum(generator.uniform(0.2, 1.5, 8))
    audio = with_bursts(14.0, [(start, start + generator.uniform(0.01, 1.0)) for start in starts_s.tolist()])
    pointer, found, start = EndPointer(EndPointing(max_utterance_s=2.0), RATE), list[tuple[int, int]](), 0
    for size in [*sizes, len(audio)]:
        found += pointer.feed(audio[start : start + size])
        start += size
    found += pointer.finish()
    assert [(begin / RATE, stop / RATE) for begin, stop in found] == find(audio, EndPointing(max_utterance_s=2.0))
    assert found
    assert all(0 < stop - begin <= 2.0 * RATE for begin, stop in found)


def test_noise_that_stays_becomes_background() -> None:
    audio = np.concatenate([noise(3.0, -70.0), with_bursts(20.0, [(12.0, 12.5)], -35.0)])
    found = find(audio)
    assert len(found) == 2
    assert found[0][1] < 3.0 + 6.0
    assert found[1] == pytest.approx((14.8, 15.7), abs=0.05)


def test_a_stream_that_begins_in_noise_has_no_utterance() -> None:
    assert find(noise(5.0, -40.0)) == []


def test_speech_without_end_is_cut() -> None:
    """Of a tone that swells and fades, which is no background."""
    audio = noise(10.0, -20.0) * (0.01 + np.abs(np.sin(np.pi * np.arange(10 * RATE) / RATE * 5))).astype(np.float32)
    found = find(audio, EndPointing(max_utterance_s=3.0))
    assert [stop - start for start, stop in found[:3]] == pytest.approx([3.0, 3.0, 3.0], abs=0.011)
    assert found[0][1] == found[1][0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pad_s": 0.3}, r"pad_s is 0\.3, but at most half of end_silence_s \(0\.5\)"),
        ({"max_utterance_s": 0.5}, "from 1 to 600"),
        ({"end_silence_s": 3.0, "max_utterance_s": 5.0}, "at most half of max_utterance_s"),
    ],
)
def test_what_cannot_be_together_is_named(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        EndPointing(**changes)
