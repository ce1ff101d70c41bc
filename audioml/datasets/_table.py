"""What layouts that read a table share: the table itself, its paths, and plain values of its columns."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from pydantic import field_validator

from audioml.datasets._files import check_source
from audioml.datasets._record import Record
from audioml.datasets._source import Source
from audioml.errors import ParamsError, SourceError, did_you_mean
from audioml.params import DataParams, is_url

if TYPE_CHECKING:
    import pandas as pd


class TableParams(DataParams):
    """Keys of every layout that reads a table."""

    root: str | None = None
    """What relative paths start at, a folder or a URL; itself relative to the table's folder, which is the default."""

    @field_validator("partition")
    @classmethod
    def _refuse_partition(cls, partition: str | None) -> None:
        if partition is not None:
            raise ValueError("a table has no folders to ingest by; leave it out, or use layout folder or filename")


def check_file(source: Source | None, layout: str) -> Source:
    """Return the source if it is a file.

    Raises
    ------
    SourceError
        When there is none, or it is a folder.
    """
    source = check_source(source, layout)
    if source.is_folder():
        raise SourceError(f"The source {source} is a folder, but data.layout {layout!r} needs a table file.")
    return source


def find_root(data: TableParams, table: Source) -> Source:
    """Return what relative paths start at."""
    return table.parent().join(data.root) if data.root else table.parent()


def find_place(data: TableParams, source: Source | None, record: Record) -> Source:
    """Return where a recording is."""
    return find_root(data, check_source(source, data.layout)).join(record.path)


def read_table(source: Source) -> pd.DataFrame:
    """Return a table with names of columns as text.

    Raises
    ------
    SourceError
        When it is empty or cannot be read.
    """
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


def check_columns(wanted: Sequence[str], known: Sequence[str], keys: str) -> None:
    """Check that a table has columns.

    Raises
    ------
    ParamsError
        With the name that is missing, those that are there, and the `keys` of params.yaml that name them.
    """
    for name in wanted:
        if name not in known:
            raise ParamsError(
                f"The table has no column {name!r}.{did_you_mean(name, known)} It has: {', '.join(known)}. "
                f"Set {keys} in params.yaml."
            )


def to_values(values: Sequence[Any]) -> list[Any]:
    """Return plain Python values of one type, None for gaps; whole numbers that gaps made float are int again."""
    plain = [None if is_gap(value) else value for value in values]
    kinds = {type(value) for value in plain if value is not None}
    if kinds == {float} and None in plain and all(value is None or value.is_integer() for value in plain):
        return [None if value is None else int(value) for value in plain]
    if kinds <= {int} or kinds <= {float} or kinds <= {bool} or kinds <= {str}:
        return plain
    if kinds == {int, float}:
        return [None if value is None else float(value) for value in plain]
    return [None if value is None else str(value) for value in plain]


def is_gap(value: Any) -> bool:
    """Tell whether a cell is empty."""
    import pandas as pd

    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def describe_paths(root: Source, values: Sequence[Any]) -> list[Record]:
    """Return the records of a column of paths: relative to the root, absolute, or URLs."""
    paths = ["" if is_gap(value) else _to_path(root, str(value).strip()) for value in values]
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
