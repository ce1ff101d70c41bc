"""Which partition of a landing zone each file lies in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from audioml.datasets._record import Record
from audioml.partitions import find_partition

COLUMN = "partition"
"""The column of a partition's key, in the manifest of a partitioned source."""
UNPARTITIONED = "unpartitioned"
"""Why a file that lies in no partition is in the quarantine."""


def place_files(files: Sequence[Record], pattern: str | None) -> tuple[list[Record], list[Record]]:
    """Return the files that lie in partitions, with the column `partition`, and the others, with a problem.

    Without a pattern there are no partitions, and all files are returned as they are.
    """
    if pattern is None:
        return list(files), []
    placed, others = [], []
    for record in files:
        key = find_partition(pattern, record.path)
        if key is None:
            detail = f"lies in no folder like {pattern} (data.partition); move it into one"
            others.append(replace(record, columns={}, problem=(UNPARTITIONED, detail)))
        else:
            placed.append(replace(record, columns={COLUMN: key}))
    return placed, others


def path_in_partition(record: Record) -> str:
    """Return the path of a file below its partition, or below the source where there are none."""
    key = record.columns.get(COLUMN)
    return record.path if key is None else record.path.removeprefix(f"{key}/")


def join_sorted(records: Sequence[Record], others: Sequence[Record]) -> list[Record]:
    """Return both, sorted by path."""
    return sorted([*records, *others], key=lambda record: record.path) if others else list(records)
