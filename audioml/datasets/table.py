"""A table of recordings: CSV, TSV, Parquet or JSON lines with a column of paths and any other columns."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import field_validator

from audioml.datasets._files import check_source
from audioml.datasets._record import Record, add_pattern_columns, check_names, set_labels
from audioml.datasets._source import Source
from audioml.errors import ParamsError, SourceError, did_you_mean
from audioml.params import DataParams, is_url

if TYPE_CHECKING:
    import pandas as pd


class Params(DataParams):
    """Keys of a table of recordings."""

    path_column: str = "path"
    """The column of paths."""
    root: str | None = None
    """What relative paths start at, a folder or a URL; itself relative to the table's folder, which is the default."""
    columns: list[str] | None = None
    """The columns to keep; None keeps all."""

    @field_validator("partition")
    @classmethod
    def _refuse_partition(cls, partition: str | None) -> None:
        if partition is not None:
            raise ValueError("a table has no folders to ingest by; leave it out, or use layout folder or filename")


def scan(data: Params, source: Source | None) -> list[Record]:
    """Return one record a row, sorted by path; files that are missing get the problem `missing`.

    Raises
    ------
    SourceError
        When the table is missing, empty or cannot be read.
    ParamsError
        When a column that params name is not there, or a column has a name that audioml writes itself.
    """
    table = _check_file(source)
    frame = _read_table(table)
    names = _choose_columns(data, list(frame.columns))
    columns = {name: _to_values(frame[name].tolist()) for name in names}
    records = [
        replace(record, columns={name: columns[name][row] for name in names})
        for row, record in enumerate(_describe(_root(data, table), frame[data.path_column].tolist()))
    ]
    records.sort(key=lambda record: record.path)
    return set_labels(add_pattern_columns(records, data.pattern), data)


def read(data: Params, source: Source | None, record: Record) -> bytes:
    """Return the bytes of one recording."""
    return _place(data, source, record).read()


def fetch(data: Params, source: Source | None, record: Record) -> AbstractContextManager[Path]:
    """Give a local path of one recording for the length of a ``with`` block."""
    return _place(data, source, record).fetch()


def column_names(table: Source) -> list[str]:
    """Return the names of a table's columns.

    Raises
    ------
    SourceError
        When the table cannot be read.
    """
    return list(_read_table(_check_file(table)).columns)


def list_paths(table: Source, column: str) -> list[Record]:
    """Return a record without columns for each path in a column, in the order of the rows."""
    return _describe(table.parent(), _read_table(table)[column].tolist())


def _check_file(source: Source | None) -> Source:
    source = check_source(source, "table")
    if source.is_folder():
        raise SourceError(f"The source {source} is a folder, but data.layout 'table' needs a table file.")
    return source


def _root(data: Params, table: Source) -> Source:
    return table.parent().join(data.root) if data.root else table.parent()


def _place(data: Params, source: Source | None, record: Record) -> Source:
    return _root(data, check_source(source, "table")).join(record.path)


def _read_table(source: Source) -> pd.DataFrame:
    import pandas as pd

    readers: dict[str, Callable[[io.BytesIO], pd.DataFrame]] = {
        ".csv": lambda file: pd.read_csv(file),
        ".tsv": lambda file: pd.read_csv(file, sep="\t"),
        ".parquet": lambda file: pd.read_parquet(file),
        ".jsonl": lambda file: pd.read_json(file, lines=True, dtype=False),
    }
    readers |= {".ndjson": readers[".jsonl"], ".json": readers[".jsonl"]}
    kind = source.suffix
    if kind not in readers:
        raise SourceError(f"{source} is no table that audioml reads: {', '.join(sorted(readers))}.")
    data = source.read()
    try:
        frame: pd.DataFrame = readers[kind](io.BytesIO(data))
    except ValueError as error:  # pandas' and pyarrow's parser errors are ValueErrors
        raise SourceError(f"{source} cannot be read as a {kind} table: {error}") from None
    if frame.empty:
        raise SourceError(f"{source} has no rows.")
    frame.columns = [str(name) for name in frame.columns]
    return frame


def _choose_columns(data: Params, known: list[str]) -> list[str]:
    wanted = [data.path_column, *(data.columns or [])]
    for name in wanted:
        if name not in known:
            raise ParamsError(
                f"The table has no column {name!r}.{did_you_mean(name, known)} It has: {', '.join(known)}. "
                "Set data.path_column (the paths) and data.columns (the others to keep) in params.yaml."
            )
    own = [name for name in (known if data.columns is None else data.columns) if name != data.path_column]
    if data.label in known and data.label not in own:
        own.append(data.label)
    check_names(own, "The table (keep others with data.columns)")
    return own


def _to_values(values: Sequence[Any]) -> list[Any]:
    """Return plain Python values of one type, None for gaps; whole numbers that gaps made float are int again."""
    plain = [None if _is_gap(value) else value for value in values]
    kinds = {type(value) for value in plain if value is not None}
    if kinds == {float} and None in plain and all(value is None or value.is_integer() for value in plain):
        return [None if value is None else int(value) for value in plain]
    if kinds <= {int} or kinds <= {float} or kinds <= {bool} or kinds <= {str}:
        return plain
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in plain]
    return [None if value is None else str(value) for value in plain]


def _is_gap(value: Any) -> bool:
    import pandas as pd

    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def _describe(root: Source, values: Sequence[Any]) -> list[Record]:
    """Return the records of a column of paths: relative to the root, absolute, or URLs."""
    paths = ["" if _is_gap(value) else _to_path(root, str(value).strip()) for value in values]
    records = [Record(f"(row {row})", 0, "", problem=("missing", "has no path")) for row in range(len(paths))]
    for urls in (True, False):
        rows = [row for row, path in enumerate(paths) if path and is_url(path) is urls]
        wanted = [paths[row] for row in rows]
        found = root.describe_urls(wanted) if urls else root.describe(wanted)
        for row, record in zip(rows, found, strict=True):
            records[row] = record
    return [
        replace(record, problem=(record.problem[0], f"row {row} of the table: {record.problem[1]}"))
        if record.problem
        else record
        for row, record in enumerate(records)
    ]


def _to_path(root: Source, value: str) -> str:
    """Return a path or URL relative to the root where it lies below it."""
    if is_url(value) or root.is_remote:
        below = root.address.rstrip("/") + "/"
        return value.removeprefix(below) if "?" not in value and "%" not in value else value
    path = PurePosixPath(value)
    if path.is_absolute() and path.is_relative_to(root.address):
        path = path.relative_to(root.address)
    return path.as_posix()
