from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioml.errors import DatasetError
from audioml.labels import NOTHING, Event, format_events, parse_events, show_labels, split_tags

TIMES = st.floats(0, 36000).map(lambda value: round(value, 6))
EVENTS = st.tuples(TIMES, st.floats(0.001, 100), st.sampled_from(["dog", "dog bark", "rain-on-roof", "3 o'clock"]))


def test_tags_are_sorted_and_each_is_there_once() -> None:
    assert split_tags("rain; dog;rain;", ";") == ["dog", "rain"]
    assert split_tags("a,b|c", "|") == ["a,b", "c"]
    assert split_tags(NOTHING, ";") == []


def test_events_are_read_by_onset() -> None:
    found = parse_events("3-3.4 heavy rain; .5 - 1.25 dog;")
    assert found == [Event(0.5, 1.25, "dog"), Event(3.0, 3.4, "heavy rain")]
    assert parse_events(NOTHING) == []


@given(st.lists(EVENTS, max_size=8))
def test_events_survive_their_text(drawn: list[tuple[float, float, str]]) -> None:
    events = sorted(Event(onset, round(onset + length, 6), label) for onset, length, label in drawn)
    assert parse_events(format_events(events)) == events


@pytest.mark.parametrize("text", ["dog", "1-2", "1 2 dog", "-1-2 dog", "a-b dog"])
def test_what_is_no_event_is_named(text: str) -> None:
    with pytest.raises(DatasetError, match=r"is no event\. Write onset-offset label"):
        parse_events(f"0-1 cat; {text}")


def test_an_event_that_ends_before_it_starts_is_an_error() -> None:
    with pytest.raises(DatasetError, match="'2-1 dog' ends no later than it starts"):
        parse_events("2-1 dog")


def test_predictions_are_shown_in_one_line() -> None:
    assert show_labels("dog") == "dog"
    assert show_labels(["dog", "rain"]) == "dog, rain"
    assert show_labels([{"label": "dog", "onset_s": 0.5, "offset_s": 1.25, "confidence": 0.9}]) == "dog 0.50-1.25 s"
    assert show_labels([]) == NOTHING
