"""What is known of each recording of a source: the state by which ingest is incremental.

Two tables: the listing (what a source held when ingest was planned) and the facts (what reading a recording found:
one row a clip, or one row with a reason for a recording that is no clip).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from audioml.store.files import write_atomic
from audioml.store.manifest import MANIFEST_TYPES

_OWN_TYPES: Mapping[str, pa.DataType] = {
    "path": pa.string(),
    "listed_bytes": pa.int64(),
    "version": pa.string(),
    "reason": pa.string(),
    "detail": pa.string(),
}
SCHEMA = pa.schema({**_OWN_TYPES, **{name: kind for name, kind in MANIFEST_TYPES.items() if name != "label"}})
"""`listed_bytes` and `version` are the recording's in the listing, and tell whether it changed since. `reason` and
`detail` are null for clips; all columns of the manifest are null for what is no clip."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def build_facts(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Return a table of facts; what a row does not say is null."""
    return pa.table({name: pa.array([row.get(name) for row in rows], SCHEMA.field(name).type) for name in SCHEMA.names})


def write_facts(path: Path, facts: pa.Table) -> None:
    """Write facts as Parquet, in the order given."""
    with write_atomic(path) as temporary:
        pq.write_table(facts, temporary, compression="zstd")


def read_facts(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read facts in the order written: all columns, or the given ones."""
    return pq.read_table(path, columns=columns)


def move_facts(path: Path, places: Mapping[str, tuple[str, int]]) -> None:
    """Write facts again, with the (shard, row) of clips that are packed elsewhere now, by clip id."""
    facts = read_facts(path)
    old = zip(*(facts[name].to_pylist() for name in ("clip_id", "shard", "row")), strict=True)
    write_facts(path, place_facts(facts, [places.get(clip_id, (shard, row)) for clip_id, shard, row in old]))


def place_facts(facts: pa.Table, places: Sequence[tuple[str | None, int | None] | None]) -> pa.Table:
    """Return facts with the (shard, row) of each row; None is no place."""
    for column, name in enumerate(("shard", "row")):
        index, kind = facts.schema.get_field_index(name), SCHEMA.field(name).type
        facts = facts.set_column(
            index, SCHEMA.field(name), pa.array([place and place[column] for place in places], kind)
        )
    return facts


def write_listing(path: Path, records: Iterable[Sequence[Any]]) -> None:
    """Write a listing: one JSON array of plain values a recording."""
    with write_atomic(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(_encode(record) + "\n")


def read_listing(path: Path) -> list[list[Any]]:
    """Read a listing in the order written."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
