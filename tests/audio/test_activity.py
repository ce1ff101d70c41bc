from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioml.audio.activity import ActiveRuns, FrameLevels, hop_samples, low_level

RATE, HOP = 8000, 80


def make_runs(**changes: float) -> ActiveRuns:
    settings = {"min_silence_s": 0.3, "min_active_s": 0.05, "pad_s": 0.1, "max_s": 2.0} | changes
    return ActiveRuns(RATE, **settings)  # type: ignore[arg-type]


def find(active: str, runs: ActiveRuns, size: int = 1000) -> list[tuple[int, int]]:
    """Segments in frames of a string in which # is an active frame."""
    flags = np.array([mark == "#" for mark in active])
    found = []
    for start in range(0, len(flags), size):
        part = flags[start : start + size]
        found += runs.feed(np.where(part, -20.0, -80.0), part)
    found += runs.finish(len(flags) * HOP)
    return [(start // HOP, stop // HOP) for start, stop in found]


def test_a_tone_has_the_level_of_its_effective_value_and_dc_none() -> None:
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE) + 0.3
    levels = FrameLevels(hop_samples(RATE)).feed(tone.astype(np.float32))
    assert len(levels) == 100
    np.testing.assert_allclose(levels, 20 * np.log10(0.5 / np.sqrt(2)), atol=1e-4)


@given(st.lists(st.integers(0, 700), max_size=20), st.integers(1, 7))
def test_levels_depend_on_no_part(sizes: list[int], multiple: int) -> None:
    audio = np.random.default_rng(0).normal(0, 0.1, 9973).astype(np.float32)
    whole = FrameLevels(HOP).feed(audio)
    parts, heard, start = FrameLevels(HOP, multiple), [], 0
    for size in [*sizes, len(audio)]:
        heard.append(parts.feed(audio[start : start + size]))
        assert len(heard[-1]) % multiple == 0
        start += size
    np.testing.assert_array_equal(np.concatenate([*heard, parts.finish()]), whole)


def test_low_level_is_that_of_the_quietest_twentieth() -> None:
    assert low_level(np.arange(100.0)) == 5.0
    assert low_level(np.zeros(0)) == -120.0


def test_few_active_frames_start_nothing_but_belong_to_what_is_open() -> None:
    marks = "..##......###......##............................................................"
    assert find(marks, make_runs(onset_frames=3)) == [(0, 31)]
    assert find(marks.replace("###", ".#."), make_runs(onset_frames=3)) == []


@pytest.mark.parametrize("size", [1, 2, 5])
def test_an_onset_may_come_in_parts(size: int) -> None:
    marks = "." * 20 + "####" + "." * 50
    assert find(marks, make_runs(onset_frames=3, min_active_s=0.0), size) == [(9, 34)]


def test_keep_from_leaves_room_for_an_onset() -> None:
    runs = make_runs(onset_frames=3)
    runs.feed(np.full(50, -80.0), np.zeros(50, bool))
    before = runs.keep_from
    runs.feed(np.full(2, -20.0), np.ones(2, bool))
    assert (runs.keep_from, runs.is_open) == (before, False)
    runs.feed(np.full(1, -20.0), np.ones(1, bool))
    assert (runs.keep_from, runs.is_open, runs.active) == (before, True, (49 * HOP, 53 * HOP))


def test_long_activity_is_cut_at_once_or_at_its_quietest_frame() -> None:
    levels = np.full(500, -20.0)
    levels[180] = -30.0
    active = np.ones(500, bool)
    quiet, at_once = make_runs(), make_runs(cut_share=0.0)
    assert quiet.feed(levels, active)[0] == (0, 180 * HOP)
    assert at_once.feed(levels, active) == [(0, 200 * HOP), (200 * HOP, 400 * HOP)]
    assert at_once.certain_until == 510 * HOP
    assert at_once.finish(500 * HOP) == [(400 * HOP, 500 * HOP)]
