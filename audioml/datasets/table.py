"""A table of recordings: CSV, TSV, Parquet or JSON lines with a column of paths and any other columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audioml.datasets._record import Record, add_pattern_columns, check_names, set_labels
from audioml.errors import ParamsError, SourceError, did_you_mean
from audioml.params import DataParams

if TYPE_CHECKING:
    import pandas as pd


class Params(DataParams):
    """Keys of a table of recordings."""

    path_column: str = "path"
    """The column of paths."""
    root: str | None = None
    """What relative paths start at; itself relative to the table's folder, which is the default."""
    columns: list[str] | None = None
    """The columns to keep; None keeps all."""


def scan(data: Params, source: Path | None) -> list[Record]:
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
    root = _root(data, table)
    columns = {name: _to_values(frame[name].tolist()) for name in names}
    records = []
    for row, value in enumerate(frame[data.path_column].tolist()):
        own = {name: columns[name][row] for name in names}
        records.append(_describe(root, value, own, row))
    records.sort(key=lambda record: record.path)
    return set_labels(add_pattern_columns(records, data.pattern), data)


def read(data: Params, source: Path | None, record: Record) -> bytes:
    """Return the bytes of one recording."""
    return (_root(data, _check_file(source)) / record.path).read_bytes()


def column_names(table: Path) -> list[str]:
    """Return the names of a table's columns.

    Raises
    ------
    SourceError
        When the table cannot be read.
    """
    return list(_read_table(_check_file(table)).columns)


def list_paths(table: Path, column: str) -> list[Record]:
    """Return a record without columns for each path in a column, in the order of the rows."""
    values = _read_table(table)[column].tolist()
    return [_describe(table.parent, value, {}, row) for row, value in enumerate(values)]


def _check_file(source: Path | None) -> Path:
    if source is None:
        raise SourceError("data.layout 'table' needs data.source: a CSV, Parquet or JSON lines file.")
    if not source.exists():
        raise SourceError(f"The table {source} does not exist. Correct data.source in params.yaml.")
    if source.is_dir():
        raise SourceError(f"The source {source} is a folder, but data.layout 'table' needs a table file.")
    return source


def _root(data: Params, table: Path) -> Path:
    return table.parent / Path(data.root).expanduser() if data.root else table.parent


def _read_table(path: Path) -> pd.DataFrame:
    import pandas as pd

    readers = {
        ".csv": lambda: pd.read_csv(path),
        ".tsv": lambda: pd.read_csv(path, sep="\t"),
        ".parquet": lambda: pd.read_parquet(path),
        ".jsonl": lambda: pd.read_json(path, lines=True, dtype=False),
        ".ndjson": lambda: pd.read_json(path, lines=True, dtype=False),
    }
    readers[".json"] = readers[".jsonl"]
    kind = path.suffix.lower()
    if kind not in readers:
        raise SourceError(f"{path} is no table that audioml reads: {', '.join(sorted(readers))}.")
    try:
        frame = readers[kind]()
    except (ValueError, OSError) as error:  # pandas' and pyarrow's parser errors are ValueErrors
        raise SourceError(f"{path} cannot be read as a {kind} table: {error}") from None
    if frame.empty:
        raise SourceError(f"{path} has no rows.")
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


def _describe(root: Path, value: Any, columns: dict[str, Any], row: int) -> Record:
    if _is_gap(value) or not str(value).strip():
        return Record(f"(row {row})", 0, 0, columns, ("missing", f"row {row} of the table has no path"))
    path = Path(str(value))
    if path.is_absolute() and path.is_relative_to(root):
        path = path.relative_to(root)
    try:
        stat = (root / path).stat()
    except OSError as error:
        return Record(path.as_posix(), 0, 0, columns, ("missing", f"row {row} of the table: {error.strerror}"))
    return Record(path.as_posix(), stat.st_size, stat.st_mtime_ns, columns)
