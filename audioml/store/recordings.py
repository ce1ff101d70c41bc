"""What is known of each recording of a source: the state by which ingest is incremental."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from audioml.store.files import write_atomic
from audioml.store.manifest import MANIFEST_TYPES

_TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64()}
_MANIFEST_FIELDS = tuple(name for name in MANIFEST_TYPES if name != "label")


class Listed(Protocol):
    """How a listing shows a recording."""

    @property
    def path(self) -> str:
        """Relative to the source."""

    @property
    def size_bytes(self) -> int:
        """As listed."""

    @property
    def mtime_ns(self) -> int:
        """Time of the last change."""


@dataclass(frozen=True)
class Facts:
    """What reading a recording found. A good one has no `reason`; a bad one has nothing but reason and detail."""

    path: str
    listed_bytes: int
    """Size in the listing; with the path and `mtime_ns` tells whether the recording changed since."""
    mtime_ns: int
    reason: str = ""
    detail: str = ""
    clip_id: str = ""
    shard: str = ""
    row: int = -1
    size_bytes: int = 0
    """Bytes read."""
    format: str = ""
    subtype: str = ""
    sample_rate: int = 0
    channels: int = 0
    duration_s: float = 0.0
    peak_dbfs: float = 0.0
    rms_dbfs: float = 0.0
    dc_offset: float = 0.0
    clipped_share: float = 0.0
    silent_share: float = 0.0

    @classmethod
    def of(cls, listed: Listed, **found: Any) -> Facts:
        """Return the facts of a listed recording."""
        return cls(listed.path, listed.size_bytes, listed.mtime_ns, **found)

    def at(self, shard: str, row: int) -> Facts:
        """Return the facts with the place in which the clip is packed."""
        return replace(self, shard=shard, row=row)

    def manifest_row(self) -> dict[str, Any]:
        """Return the manifest's columns but the label and the source's own."""
        return {name: getattr(self, name) for name in _MANIFEST_FIELDS}


SCHEMA = pa.schema([(field.name, _TYPES[str(field.type)]) for field in fields(Facts)])


def write_facts(path: Path, facts: Sequence[Facts]) -> None:
    """Write facts as Parquet, in the order given."""
    table = pa.Table.from_pylist([asdict(fact) for fact in facts], schema=SCHEMA)
    with write_atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_facts(path: Path) -> list[Facts]:
    """Read facts in the order written."""
    return [Facts(**row) for row in pq.read_table(path, schema=SCHEMA).to_pylist()]
