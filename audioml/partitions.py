"""Partitions of a landing zone: the folders below a source that are ingested one by one, by date or by name.

A pattern such as ``%Y-%m-%d``, ``%Y/%m/%d``, ``*`` or ``release-*`` says which folders they are. A partition's key is
its folder's path relative to the source.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from audioml.errors import ParamsError

DIRECTIVES = "YmdHMj"
"""Directives of strftime that a pattern may hold: each has digits of a fixed number, so that names sort by date."""
PERIODS = (
    ("M", timedelta(minutes=1)),
    ("H", timedelta(hours=1)),
    ("dj", timedelta(hours=25)),
    ("m", timedelta(days=31, hours=1)),
    ("Y", timedelta(days=366)),
)
"""The longest time that one folder stands for, by the finest directive in the pattern. A day may have 25 hours."""
_DIRECTIVE = re.compile(r"%(.?)")


def check_pattern(pattern: str) -> str:
    """Return a pattern if it says which folders are partitions.

    Raises
    ------
    ValueError
        With what is wrong with it.
    """
    parts = pattern.split("/")
    if any(part in ("", ".", "..") or part.startswith(".") for part in parts):
        raise ValueError(
            "write the visible folders below the source, such as %Y-%m-%d or %Y/%m/%d, with / between them"
        )
    if unknown := [f"%{letter}" for letter in _DIRECTIVE.findall(pattern) if letter not in tuple(DIRECTIVES)]:
        known = ", ".join(f"%{letter}" for letter in DIRECTIVES)
        raise ValueError(f"{unknown[0]!r} is no directive that it may hold; there are {known}")
    if is_dated(pattern) == ("*" in pattern):
        raise ValueError("write either directives of a date, such as %Y-%m-%d, or * for any name")
    if is_dated(pattern) and "%Y" not in pattern:
        raise ValueError("a date needs its year, %Y")
    return pattern


def is_dated(pattern: str | None) -> bool:
    """Tell a pattern of dates from one of names."""
    return pattern is not None and "%" in pattern


def find_partition(pattern: str, path: str) -> str | None:
    """Return the partition in which a file lies, by its path relative to the source; None if it lies in none."""
    depth = pattern.count("/") + 1
    folders = path.split("/")[:-1]
    key = "/".join(folders[:depth])
    return key if len(folders) >= depth and matches(pattern, key) else None


def matches(pattern: str, key: str) -> bool:
    """Tell whether a folder of this relative path is a partition."""
    if is_dated(pattern):
        try:
            return datetime.strptime(key, pattern).strftime(pattern) == key
        except ValueError:
            return False
    parts, names = pattern.split("/"), key.split("/")
    return len(parts) == len(names) and all(
        bool(name) and not name.startswith(".") and fnmatchcase(name, part)
        for part, name in zip(parts, names, strict=True)
    )


def check_key(pattern: str | None, key: str) -> str:
    """Return a partition's key if the pattern allows it.

    Raises
    ------
    ParamsError
        When the source has no partitions, or none could be called so.
    """
    if pattern is None:
        raise ParamsError(
            f"There is no partition {key!r}: data.partition is not set. Set it in params.yaml to the folders that "
            "hold one partition each, such as %Y-%m-%d, or leave out --partition."
        )
    if not matches(pattern, key):
        example = datetime(2026, 1, 31).strftime(pattern) if is_dated(pattern) else pattern.replace("*", "NAME")
        raise ParamsError(
            f"{key!r} is no partition: data.partition is {pattern!r}, so one is called like {example!r}. "
            "Give the folder's path relative to the source."
        )
    return key


def partition_of(pattern: str, moment: datetime) -> str:
    """Return the key of the partition in which a moment lies, in the moment's own time zone."""
    return moment.strftime(pattern)


def period_of(pattern: str) -> timedelta:
    """Return the longest time that one folder of a pattern of dates stands for."""
    return next(period for letters, period in PERIODS if any(f"%{letter}" in pattern for letter in letters))
