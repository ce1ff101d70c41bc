"""A table of sound events: a row an event, as DCASE and DESED annotate: filename, onset, offset, event_label.

CSV, TSV, Parquet or JSON lines. The events of a recording become its column `label`, as `audioml.labels` writes them; a
recording without events has a row with a gap for the event.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audioml.datasets._record import Record, add_pattern_columns, check_names, set_labels
from audioml.datasets._source import Source
from audioml.datasets._table import (
    TableParams,
    check_columns,
    check_file,
    describe_paths,
    find_place,
    find_root,
    is_gap,
    read_table,
    to_values,
)
from audioml.errors import SourceError
from audioml.labels import EVENT_SEPARATOR, Event, format_events

if TYPE_CHECKING:
    import pandas as pd


class Params(TableParams):
    """Keys of a table of events."""

    path_column: str = "filename"
    """The column of paths."""
    onset_column: str = "onset"
    """In seconds."""
    offset_column: str = "offset"
    """In seconds."""
    event_column: str = "event_label"
    """The column of the events' labels."""
    columns: tuple[str, ...] = ()
    """Further columns to keep. They are the recording's, so all its rows must say the same."""


def scan(data: Params, source: Source | None) -> list[Record]:
    """Return one record a recording, sorted by path; files that are missing get the problem `missing`.

    Raises
    ------
    SourceError
        When the table is missing, empty or cannot be read, a row is no event, or rows of a recording differ in a
        column that is kept.
    ParamsError
        When a column that params name is not there, or has a name that audioml writes itself.
    """
    table = check_file(source, data.layout)
    frame = read_table(table)
    own = [data.path_column, data.onset_column, data.offset_column, data.event_column]
    keys = "data.path_column, data.onset_column, data.offset_column, data.event_column and data.columns"
    check_columns([*own, *data.columns], list(frame.columns), keys)
    check_names(data.columns, "data.columns")
    rows = frame.groupby(data.path_column, sort=True, dropna=False)
    columns = {name: to_values([_one_value(group, name, path) for path, group in rows]) for name in data.columns}
    columns["label"] = [format_events(_read_events(data, group, path)) for path, group in rows]
    records = [
        record.with_columns({name: values[i] for name, values in columns.items()})
        for i, record in enumerate(describe_paths(find_root(data, table), [path for path, _ in rows]))
    ]
    records.sort(key=lambda record: record.path)
    return set_labels(add_pattern_columns(records, data.pattern), data)


def read(data: Params, source: Source | None, record: Record) -> bytes:
    """Return the bytes of one recording."""
    return find_place(data, source, record).read()


def fetch(data: Params, source: Source | None, record: Record) -> AbstractContextManager[Path]:
    """Give a local path of one recording for the length of a ``with`` block."""
    return find_place(data, source, record).fetch()


def _one_value(rows: pd.DataFrame, name: str, path: Any) -> Any:
    values = rows[name].drop_duplicates().tolist()
    if len(values) > 1:
        raise SourceError(
            f"The rows of {path} say {', '.join(map(str, values[:3]))} in the column {name!r}, but a column of a "
            "recording has one value. Leave it out of data.columns, or correct the table."
        )
    return values[0]


def _read_events(data: Params, rows: pd.DataFrame, path: Any) -> list[Event]:
    events = []
    columns = (rows[name].tolist() for name in (data.onset_column, data.offset_column, data.event_column))
    for onset, offset, label in zip(*columns, strict=True):
        if is_gap(label) and is_gap(onset):
            continue
        times = [_to_seconds(onset), _to_seconds(offset)]
        name = "" if is_gap(label) else str(label).strip()
        if not name or EVENT_SEPARATOR in name or not 0 <= times[0] < times[1] < math.inf:
            raise SourceError(
                f"{path}: the row with onset {onset}, offset {offset} and label {label!r} is no event: it needs "
                f"0 <= onset < offset in seconds, and a label without {EVENT_SEPARATOR!r}. Correct the table."
            )
        events.append(Event(times[0], times[1], name))
    return events


def _to_seconds(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
