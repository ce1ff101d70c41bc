"""Drift against closed forms, other implementations, and repeated draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from audioml.monitoring.columns import COLUMNS, Sample
from audioml.monitoring.drift import Finding, adjust_holm, distance, find_drift

LOUDNESS = next(column for column in COLUMNS if column.name == "rms_dbfs")
ANSWERS = next(column for column in COLUMNS if column.name == "class")
Sides = dict[str, tuple[Sample, Sample]]


def empty() -> Sides:
    return {column.name: (Sample(np.empty(0)), Sample(np.empty(0))) for column in COLUMNS}


def find(sides: Sides, min_effect: float = 0.1) -> dict[str, Finding]:
    return {f.column.name: f for f in find_drift({**empty(), **sides}, 100, 0.999, min_effect)}


def words(*counts: int) -> NDArray[np.object_]:
    return np.repeat(np.array(["yes", "no", "up", "down", "left"], dtype=object)[: len(counts)], counts)


def test_distance_of_numbers_is_that_of_their_distribution_functions() -> None:
    # Half of the second sample lies above all of the first.
    assert distance(LOUDNESS, np.array([1.0, 2.0]), np.array([1.0, 2.0, 3.0, 4.0])) == pytest.approx(0.5)


def test_distance_of_classes_is_the_root_of_the_jensen_shannon_divergence() -> None:
    # Disjoint: 1 bit. Half of one side shared: H(m) - (H(p) + H(q)) / 2 with p = (1/2, 1/2), q = (1, 0).
    assert distance(ANSWERS, words(5), np.array(["other"] * 3, dtype=object)) == pytest.approx(1.0)
    mixed = -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25)) - 0.5
    assert distance(ANSWERS, words(5, 5), words(7)) == pytest.approx(np.sqrt(mixed))


def test_holm_of_the_paper() -> None:
    # Holm (1979), the ordered p-values of three tests: 3 * 0.01, 2 * 0.02, and not below the one before.
    adjusted = adjust_holm(np.array([0.02, 0.01, 0.9]))
    np.testing.assert_allclose(adjusted, [0.04, 0.03, 0.9])
    np.testing.assert_allclose(adjust_holm(np.array([0.03, 0.03])), [0.06, 0.06])
    assert adjust_holm(np.empty(0)).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_the_order_and_lowers_nothing(p_values: list[float]) -> None:
    given_, adjusted = np.array(p_values), adjust_holm(np.array(p_values))
    assert (adjusted >= given_).all()
    assert (adjusted <= 1).all()
    assert (np.diff(adjusted[np.argsort(given_, kind="stable")]) >= 0).all()


def test_a_shift_is_found_and_comes_first() -> None:
    generator = np.random.default_rng(0)
    before, same = generator.normal(-20, 4, (2, 1000))
    shifted = before - 6
    sides = {
        "rms_dbfs": (Sample(before), Sample(shifted)),
        "duration_s": (Sample(before), Sample(same)),
        "class": (Sample(words(50, 50, 50)), Sample(words(50, 52, 48))),
    }
    found = find_drift({**empty(), **sides}, 100, 0.999, 0.1)
    assert [f.column.name for f in found if f.drifted] == ["rms_dbfs"]
    assert found[0].column.name == "rms_dbfs"
    assert found[0].reference == f"{np.median(before):,.3g} dBFS"


def test_other_classes_are_found() -> None:
    found = find({"class": (Sample(words(100, 100, 100)), Sample(words(20, 30, 110)))})["class"]
    assert found.drifted
    assert (found.reference, found.now) == ("no (33%)", "up (69%)")


def test_rare_classes_are_pooled() -> None:
    # 40 classes of two each say nothing that a chi-squared test could tell.
    rare = np.array([f"c{i}" for i in range(40) for _ in range(2)] + ["all"] * 120, dtype=object)
    assert not find({"class": (Sample(rare), Sample(rare[::-1]))})["class"].drifted
    assert find({"class": (Sample(words(150)), Sample(words(150)))})["class"].p_value == 1.0


def test_a_difference_that_does_not_matter_is_none_however_many_show_it() -> None:
    generator = np.random.default_rng(0)
    before, now = generator.normal(0, 1, 100_000), generator.normal(0.1, 1, 100_000)
    found = find({"rms_dbfs": (Sample(before), Sample(now))})["rms_dbfs"]
    assert found.p_value < 1e-6
    assert not found.drifted
    assert find({"rms_dbfs": (Sample(before), Sample(now))}, min_effect=0.02)["rms_dbfs"].drifted


def test_groups_that_differ_among_themselves_ask_for_more() -> None:
    generator = np.random.default_rng(0)
    groups = np.repeat(np.arange(10), 100)
    speakers = generator.normal(-20, 6, 10)[groups] + generator.normal(0, 1, 1000)
    # Two speakers that nobody has heard, from the same population.
    others = generator.normal(-20, 6, 2).repeat(100) + generator.normal(0, 1, 200)
    alone = find({"rms_dbfs": (Sample(speakers), Sample(others))})["rms_dbfs"]
    whole = find({"rms_dbfs": (Sample(speakers, groups), Sample(others))})["rms_dbfs"]
    assert alone.needed == 0.1
    assert alone.drifted
    assert whole.needed == pytest.approx(0.5)
    far = find({"rms_dbfs": (Sample(speakers, groups), Sample(others - 60))})["rms_dbfs"]
    assert far.drifted


def test_too_few_are_not_tested() -> None:
    found = find({"rms_dbfs": (Sample(np.zeros(500)), Sample(np.ones(99)))})
    assert found["rms_dbfs"].skipped == "99 recordings have it; 100 are needed"
    assert found["confidence"].skipped == "none of the reference clips has it"
    assert not any(f.drifted for f in found.values())


def test_false_alarms_are_as_rare_as_stated() -> None:
    """With all columns independent and the same in both: 0.1 % of runs; of 100, more than 2 have a chance of 2e-4."""
    generator = np.random.default_rng(7)
    alarms = 0
    for _ in range(100):
        sides = {
            column.name: (Sample(generator.normal(size=400)), Sample(generator.normal(size=150)))
            for column in COLUMNS
            if column.kind == "number"
        }
        alarms += any(f.drifted for f in find(sides, min_effect=0.0).values())
    assert alarms <= 2
