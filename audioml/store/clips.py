"""Packed clips: Parquet shards that hold recordings as they came, byte for byte.

The columns are `clip_id` and `audio: struct<bytes, path>`, with the schema metadata by which Hugging Face
`datasets` reads the second as audio. A shard is named by the clips in it and never changes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from audioml.errors import StoreError
from audioml.store.files import hash_json, write_atomic

FOLDER = "data/audio"
"""Where the shards of a workspace are."""
ROW_GROUP_CLIPS = 100
"""Clips per row group: reading one clip reads no more than these."""

_FEATURES = {"clip_id": {"dtype": "string", "_type": "Value"}, "audio": {"_type": "Audio"}}
SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string()),
        pa.field("audio", pa.struct([pa.field("bytes", pa.binary()), pa.field("path", pa.string())])),
    ],
    metadata={"huggingface": json.dumps({"info": {"features": _FEATURES}})},
)


class Clip(NamedTuple):
    """One recording to pack."""

    clip_id: str
    """SHA-256 of `data`."""
    path: str
    """Relative to the source."""
    data: bytes


def write_clips(folder: Path, clips: Sequence[Clip]) -> str:
    """Pack clips into one shard of `folder`, unless it is there already, and return its file name.

    The name is the hash of the clips' ids and paths in order, and equal clips make equal files.
    """
    name = f"{hash_json([[clip.clip_id, clip.path] for clip in clips])[:20]}.parquet"
    if not (folder / name).exists():
        with (
            write_atomic(folder / name) as temporary,
            pq.ParquetWriter(
                temporary, SCHEMA, compression="none", use_dictionary=False, write_statistics=False
            ) as writer,
        ):
            for start in range(0, len(clips), ROW_GROUP_CLIPS):
                group = clips[start : start + ROW_GROUP_CLIPS]
                rows = [{"clip_id": c.clip_id, "audio": {"bytes": c.data, "path": c.path}} for c in group]
                writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
    return name


def read_clips(path: Path, rows: Sequence[int] | None = None) -> list[tuple[str, bytes]]:
    """Return (clip id, bytes) of all clips of a shard, or of the given rows in the order given.

    Raises
    ------
    StoreError
        When the shard is missing or no packed shard, or has no such row.
    """
    try:
        file = pq.ParquetFile(path, memory_map=True)
    except FileNotFoundError:
        raise StoreError(
            f"The shard {path} is missing. Bring it back with: dvc checkout (or: audioml run ingest)"
        ) from None
    except pa.ArrowInvalid as error:
        raise StoreError(
            f"{path} is not a shard of packed clips: {error}. Remove it and run: audioml run ingest"
        ) from None
    with file:
        if rows is None:
            return _to_clips(file.read())
        n_rows = file.metadata.num_rows
        if outside := [row for row in rows if not 0 <= row < n_rows]:
            raise StoreError(f"{path} has rows 0 to {n_rows - 1}, but row {outside[0]} was asked for.")
        return _read_rows(file, rows)


def _read_rows(file: pq.ParquetFile, rows: Sequence[int]) -> list[tuple[str, bytes]]:
    found: dict[int, tuple[str, bytes]] = {}
    wanted, start = set(rows), 0
    for group in range(file.num_row_groups):
        stop = start + file.metadata.row_group(group).num_rows
        if here := sorted(row for row in wanted if start <= row < stop):
            table = file.read_row_group(group).take([row - start for row in here])
            found.update(zip(here, _to_clips(table), strict=True))
        start = stop
    return [found[row] for row in rows]


def _to_clips(table: pa.Table) -> list[tuple[str, bytes]]:
    data = table["audio"].combine_chunks().field("bytes").to_pylist()
    return list(zip(table["clip_id"].to_pylist(), data, strict=True))
