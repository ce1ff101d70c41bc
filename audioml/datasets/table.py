"""A table of recordings: CSV, TSV, Parquet or JSON lines with a column of paths and any other columns."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from audioml.datasets._record import Record, add_pattern_columns, check_names, set_labels
from audioml.datasets._source import Source
from audioml.datasets._table import (
    TableParams,
    check_columns,
    check_file,
    describe_paths,
    find_place,
    find_root,
    read_table,
    to_values,
)


class Params(TableParams):
    """Keys of a table of recordings."""

    path_column: str = "path"
    """The column of paths."""
    columns: list[str] | None = None
    """The columns to keep; None keeps all."""


def scan(data: Params, source: Source | None) -> list[Record]:
    """Return one record a row, sorted by path; files that are missing get the problem `missing`.

    Raises
    ------
    SourceError
        When the table is missing, empty or cannot be read.
    ParamsError
        When a column that params name is not there, or a column has a name that audioml writes itself.
    """
    table = check_file(source, data.layout)
    frame = read_table(table)
    names = _choose_columns(data, list(frame.columns))
    columns = {name: to_values(frame[name].tolist()) for name in names}
    records = [
        replace(record, columns={name: columns[name][row] for name in names})
        for row, record in enumerate(describe_paths(find_root(data, table), frame[data.path_column].tolist()))
    ]
    records.sort(key=lambda record: record.path)
    return set_labels(add_pattern_columns(records, data.pattern), data)


def read(data: Params, source: Source | None, record: Record) -> bytes:
    """Return the bytes of one recording."""
    return find_place(data, source, record).read()


def fetch(data: Params, source: Source | None, record: Record) -> AbstractContextManager[Path]:
    """Give a local path of one recording for the length of a ``with`` block."""
    return find_place(data, source, record).fetch()


def column_names(table: Source) -> list[str]:
    """Return the names of a table's columns.

    Raises
    ------
    SourceError
        When the table cannot be read.
    """
    return list(read_table(check_file(table, "table")).columns)


def list_paths(table: Source, column: str) -> list[Record]:
    """Return a record without columns for each path in a column, in the order of the rows."""
    return describe_paths(table.parent(), read_table(table)[column].tolist())


def _choose_columns(data: Params, known: list[str]) -> list[str]:
    wanted = [data.path_column, *(data.columns or [])]
    check_columns(wanted, known, "data.path_column (the paths) and data.columns (the others to keep)")
    own = [name for name in (known if data.columns is None else data.columns) if name != data.path_column]
    if data.label in known and data.label not in own:
        own.append(data.label)
    check_names(own, "The table (keep others with data.columns)")
    return own
