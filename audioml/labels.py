"""What stands in the column `label` where a clip has more than one label: tags, or events with their times.

Tags are names between separators: ``dog;rain``. Events are ``onset-offset label`` in seconds, between semicolons:
``0.5-1.2 dog; 3-3.4 rain``. `NOTHING` stands for none of either: an empty label would mean that nobody has listened.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from audioml.errors import DatasetError

NOTHING = "(none)"
EVENT_SEPARATOR = ";"
_EVENT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*-\s*(\d+(?:\.\d*)?|\.\d+)\s+(\S.*)")


class Event(NamedTuple):
    """A sound with its times, in seconds from the start of its recording."""

    onset_s: float
    offset_s: float
    label: str


def split_tags(text: str, separator: str) -> list[str]:
    """Return the tags of a clip, sorted, each once; none for `NOTHING`."""
    if text.strip() == NOTHING:
        return []
    return sorted({tag.strip() for tag in text.split(separator)} - {""})


def parse_events(text: str) -> list[Event]:
    """Return the events of a recording, sorted by onset; none for `NOTHING`.

    Raises
    ------
    DatasetError
        When a part is no event, or an event ends before it starts.
    """
    if text.strip() == NOTHING:
        return []
    events = []
    for part in text.split(EVENT_SEPARATOR):
        if not part.strip():
            continue
        match = _EVENT.fullmatch(part.strip())
        if match is None:
            raise DatasetError(
                f"The label {part.strip()!r} is no event. Write onset-offset label in seconds, such as "
                f"'0.5-1.2 dog; 3-3.4 rain', or {NOTHING} for a recording without events."
            )
        event = Event(float(match[1]), float(match[2]), match[3])
        if event.offset_s <= event.onset_s:
            raise DatasetError(f"The event {part.strip()!r} ends no later than it starts. Correct its times.")
        events.append(event)
    return sorted(events)


def format_events(events: Iterable[Event]) -> str:
    """Return events as text that `parse_events` reads, to the microsecond."""
    parts = [f"{_seconds(e.onset_s)}-{_seconds(e.offset_s)} {e.label}" for e in sorted(events)]
    return f"{EVENT_SEPARATOR} ".join(parts) or NOTHING


def show_labels(prediction: Any) -> str:
    """Return a prediction in one line for people: a label, a list of tags, or a list of events as `describe` gives."""
    if not isinstance(prediction, list):
        return str(prediction)
    shown = [
        f"{item['label']} {item['onset_s']:.2f}-{item['offset_s']:.2f} s" if isinstance(item, dict) else str(item)
        for item in prediction
    ]
    return ", ".join(shown) or NOTHING


def _seconds(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")
