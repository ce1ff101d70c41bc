"""Labels in file names: a regular expression with named groups finds them and other columns."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from audioml.datasets._files import check_folder, check_source
from audioml.datasets._partition import join_sorted, place_files
from audioml.datasets._record import EXAMPLES, Record, add_columns, match_pattern, set_labels
from audioml.datasets._source import Source
from audioml.errors import ParamsError, SourceError
from audioml.params import DataParams


class Params(DataParams):
    """File names have no keys of their own; `pattern` is required."""


def scan(data: Params, source: Source | None) -> list[Record]:
    """Return all recordings below the source, sorted by path.

    Raises
    ------
    ParamsError
        When `pattern` is missing or not valid, or has no group for the label.
    SourceError
        When the source is no folder or holds no recordings, or the pattern does not match every file.
    """
    root = check_folder(source, data.layout)
    _require_pattern(data)
    files = root.list_files()
    if not files:
        raise SourceError(f"{root} holds no recordings. Correct data.source in params.yaml.")
    return describe(data, files)


def describe(data: Params, files: Sequence[Record]) -> list[Record]:
    """Return the records of listed files with the columns that `pattern` finds in their paths, sorted by path.

    Where `data.partition` is set, the partition's key is the column `partition`. Raises as `scan`.
    """
    pattern = _require_pattern(data)
    placed, others = place_files(files, data.partition)
    if not placed:
        return others
    matched = match_pattern([record.path for record in placed], pattern)
    if unmatched := [record.path for record, found in zip(placed, matched, strict=True) if found is None]:
        raise SourceError(
            f"data.pattern {pattern!r} does not match {len(unmatched)} of {len(placed)} files, so their label is "
            f"missing: {', '.join(map(repr, unmatched[:EXAMPLES]))}{' ...' if len(unmatched) > EXAMPLES else ''}. "
            "Widen the pattern, or move these files elsewhere."
        )
    return join_sorted(set_labels(add_columns(placed, matched, pattern), data), others)


def _require_pattern(data: Params) -> str:
    if data.pattern is None:
        raise ParamsError(
            "data.layout 'filename' needs data.pattern: a regular expression with a named group for the label, "
            r"such as (?P<label>\w+)_(?P<speaker>\w+)_\d+"
        )
    return data.pattern


def read(data: Params, source: Source | None, record: Record) -> bytes:
    """Return the bytes of one recording."""
    return check_source(source, data.layout).read(record.path)


def fetch(data: Params, source: Source | None, record: Record) -> AbstractContextManager[Path]:
    """Give a local path of one recording for the length of a ``with`` block."""
    return check_source(source, data.layout).fetch(record.path)
