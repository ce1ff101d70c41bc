"""What every layout shares: the record of one recording, columns from paths, and labels."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from audioml.errors import ParamsError, SourceError
from audioml.params import DataParams

UNLABELLED = "unlabelled"
"""Why a recording without a label is in the quarantine."""
EXAMPLES = 3
"""How many paths an error names."""
_EXTENSION = re.compile(r"\.(?=[0-9]*[A-Za-z])[A-Za-z0-9]{1,5}$")
_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


@dataclass(frozen=True)
class Record:
    """One recording of a source, as its listing shows it."""

    path: str
    """Relative to the source, with forward slashes."""
    size_bytes: int
    version: str
    """With path and size, tells a changed recording from an unchanged one: a time or a checksum, as the source has."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """The source's own columns of the manifest, `label` (a string) among them."""
    problem: tuple[str, str] | None = None
    """Reason and detail if the recording goes to quarantine unread."""

    def with_columns(self, columns: Mapping[str, Any], problem: tuple[str, str] | None = None) -> Record:
        """Return a copy with other columns, and a problem if it has none. `replace` takes four times as long."""
        return Record(self.path, self.size_bytes, self.version, columns, self.problem or problem)


def strip_extension(path: str) -> str:
    """Return the path without its extension: up to five letters and digits, not digits alone."""
    return _EXTENSION.sub("", path)


def match_pattern(paths: Sequence[str], pattern: str) -> list[dict[str, Any] | None]:
    """Return the columns that a regular expression finds in each path; None where it finds nothing.

    It is searched in the path without extension; named groups become columns, and a column whose values are
    all whole numbers becomes int.

    Raises
    ------
    ParamsError
        When the pattern does not compile, names no group, or names a column of audioml's own.
    SourceError
        When it matches no path.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ParamsError(f"data.pattern {pattern!r} is not a regular expression: {error}.") from None
    names = list(compiled.groupindex)
    if not names:
        raise ParamsError(f"data.pattern {pattern!r} names no group; write (?P<label>...) for a column 'label'.")
    check_names(names, f"data.pattern {pattern!r}")
    matches = [compiled.search(strip_extension(path)) for path in paths]
    if paths and not any(matches):
        raise SourceError(
            f"data.pattern {pattern!r} matches none of {len(paths)} files. "
            f"It is searched in paths such as {strip_extension(paths[0])!r}."
        )
    columns = {name: parse_integers([m[name] if m else None for m in matches]) for name in names}
    return [{name: columns[name][i] for name in names} if m else None for i, m in enumerate(matches)]


def check_names(names: Sequence[str], where: str) -> None:
    """Refuse columns that would hide audioml's own.

    Raises
    ------
    ParamsError
        With the names that clash and all that are taken.
    """
    # Here, as it brings pyarrow, which Airflow's triggerer lists a source without.
    from audioml.store.manifest import RESERVED

    if clash := sorted(RESERVED & set(names)):
        raise ParamsError(
            f"{where} has the column(s) {', '.join(clash)}, which audioml writes itself. Choose other names; "
            f"taken are: {', '.join(sorted(RESERVED))}."
        )


def parse_integers(values: list[str | None]) -> list[Any]:
    """Return whole numbers if all values that are there are such, else the values."""
    there = [value for value in values if value is not None]
    if there and all(_INTEGER.fullmatch(value) for value in there):
        return [None if value is None else int(value) for value in values]
    return list(values)


def add_pattern_columns(records: Sequence[Record], pattern: str | None) -> list[Record]:
    """Return records with the columns that `pattern` finds; none of them where it does not match a path.

    Raises
    ------
    ParamsError, SourceError
        As `match_pattern`; and ParamsError when a group has the name of a column that is there already.
    """
    if pattern is None:
        return list(records)
    return add_columns(records, match_pattern([record.path for record in records], pattern), pattern)


def add_columns(records: Sequence[Record], found: Sequence[Mapping[str, Any] | None], pattern: str) -> list[Record]:
    """Return records with the columns that `match_pattern` found in their paths. Raises ParamsError as above."""
    names = {name for columns in found if columns for name in columns}
    if clash := sorted(names & {name for record in records for name in record.columns}):
        raise ParamsError(
            f"data.pattern {pattern!r} names the group(s) {', '.join(clash)}, but the layout has columns of these "
            "names already. Rename the group(s), or use data.layout: filename."
        )
    nothing: dict[str, Any] = dict.fromkeys(names)
    return [
        record.with_columns({**record.columns, **(columns or nothing)})
        for record, columns in zip(records, found, strict=True)
    ]


def set_labels(records: Sequence[Record], data: DataParams) -> list[Record]:
    """Return records with the string column `label` taken from the column `data.label`, which is kept.

    A recording without a label gets the problem `unlabelled`.

    Raises
    ------
    ParamsError
        When no record has such a column.
    """
    known = sorted({name for record in records for name in record.columns})
    if data.label not in known:
        raise ParamsError(
            f"data.label is {data.label!r}, but the source has no such column. It has: {', '.join(known) or 'none'}. "
            "Name one of them, or add a group of that name to data.pattern."
        )
    return [_set_label(record, data.label) for record in records]


def _set_label(record: Record, column: str) -> Record:
    value = record.columns.get(column)
    label = "" if value is None else str(value).strip()
    if label:
        return record.with_columns({**record.columns, "label": label})
    columns = {name: held for name, held in record.columns.items() if name != "label"}
    return record.with_columns(columns, problem=(UNLABELLED, f"the column {column!r} is empty"))
