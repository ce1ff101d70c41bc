"""Packed clips: Parquet shards that hold recordings as they came, byte for byte.

The columns are `clip_id` and `audio: struct<bytes, path>`, with the schema metadata by which Hugging Face
`datasets` reads the second as audio. A shard is named by the clips in it and never changes. It is also the unit of
all later work, so shards are cut evenly, by bytes and by seconds of audio.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from audioml.errors import StoreError
from audioml.store.files import hash_bytes, hash_json, write_atomic

FOLDER = "data/audio"
"""Where the shards of a workspace are."""
ROW_GROUP_CLIPS = 100
"""Clips per row group: reading one clip reads no more than these."""
MIN_CLIP_S = 0.5
"""A clip counts as this long at least: what a clip costs whatever its length is some half second of audio."""

ROUNDING = 1e-9
"""Sums of shares differ by this in the order of their terms."""

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


class Place(NamedTuple):
    """Where a clip is packed."""

    shard: str
    """File name in `FOLDER`."""
    row: int


@dataclass
class Packer:
    """Packs a stream of clips into even shards, holding no more than two of them in memory.

    A shard is full at `max_bytes` or `max_s`. Full ones are written as they come; what is left at the end is cut
    into equal parts, so that there is no small last shard beside a full one. The cut depends on the clips alone.
    """

    folder: Path
    max_bytes: float
    max_s: float
    """Seconds of audio."""
    places: dict[str, Place] = field(default_factory=dict)
    """By clip id, of all clips in shards that are written."""
    _pending: dict[str, tuple[Clip, float]] = field(default_factory=dict)
    _fill: float = 0.0

    def add(self, clip: Clip, duration_s: float) -> None:
        """Take one more clip, unless it came before; write a shard once there is enough for two."""
        if clip.clip_id in self.places or clip.clip_id in self._pending:
            return
        share = self.share(len(clip.data), duration_s)
        self._pending[clip.clip_id] = clip, share
        self._fill += share
        while self._fill >= 2.0:
            self._write(1.0)

    def finish(self) -> dict[str, Place]:
        """Write what is left and return the place of every clip."""
        if self._fill > 1.0 + ROUNDING:
            self._write(min(self._fill / 2, 1.0))
        while self._pending:
            self._write(1.0)
        return self.places

    def share(self, n_bytes: int, duration_s: float) -> float:
        """Return what share of a shard a clip fills."""
        return max(n_bytes / self.max_bytes, max(duration_s, MIN_CLIP_S) / self.max_s)

    def _write(self, size: float) -> None:
        """Write a shard of the first pending clips, as many as fill no more than `size`, but one at least."""
        clips: list[Clip] = []
        fill = 0.0
        for clip, share in self._pending.values():
            if clips and fill + share > size + ROUNDING:
                break
            clips.append(clip)
            fill += share
        shard = write_clips(self.folder, clips)
        for row, clip in enumerate(clips):
            self.places[clip.clip_id] = Place(shard, row)
            del self._pending[clip.clip_id]
        self._fill -= fill


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
                writer.write_batch(_to_batch(clips[start : start + ROW_GROUP_CLIPS]))
    return name


def read_clips(path: Path, rows: Sequence[int] | None = None) -> list[tuple[str, bytes]]:
    """Return (clip id, bytes) of all clips of a shard, or of the given rows in the order given.

    Raises
    ------
    StoreError
        When the shard is missing or no packed shard, has no such row, or holds bytes that are not the clip's.
    """
    if rows is None:
        return list(iter_clips(path))
    distinct = sorted(set(rows))
    found = dict(zip(distinct, iter_clips(path, distinct), strict=True))
    return [found[row] for row in rows]


def iter_clips(path: Path, rows: Sequence[int] | None = None) -> Iterator[tuple[str, bytes]]:
    """Yield (clip id, bytes) of a shard's clips in the order of their rows, with few of them in memory at a time.

    Parameters
    ----------
    path
        The shard.
    rows
        Rows to read, in ascending order; None reads all.

    Raises
    ------
    StoreError
        When the shard is missing or no packed shard, has no such row, or holds bytes whose SHA-256 is not their id.
    """
    with _open(path) as file:
        n_rows = file.metadata.num_rows
        wanted = range(n_rows) if rows is None else rows
        if outside := [row for row in wanted if not 0 <= row < n_rows]:
            raise StoreError(f"{path} has rows 0 to {n_rows - 1}, but row {outside[0]} was asked for.")
        start, at = 0, 0
        for group in range(file.num_row_groups):
            stop, first = start + file.metadata.row_group(group).num_rows, at
            while at < len(wanted) and wanted[at] < stop:
                at += 1
            if at > first:
                yield from _read_group(file, path, group, [row - start for row in wanted[first:at]])
            start = stop


def count_rows(path: Path) -> int:
    """Return how many clips a shard holds, from its footer. Raises StoreError as `read_clips` does."""
    with _open(path) as file:
        return int(file.metadata.num_rows)


def read_clip_ids(path: Path) -> list[str]:
    """Return the ids of all clips of a shard by row, without their bytes. Raises StoreError as `read_clips` does."""
    with _open(path) as file:
        ids: list[str] = file.read(columns=["clip_id"])["clip_id"].to_pylist()
        return ids


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path, memory_map=True)
    except FileNotFoundError:
        raise StoreError(
            f"The shard {path} is missing. Bring it back with: dvc checkout (or: audioml run ingest)"
        ) from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise StoreError(
            f"{path} is not a shard of packed clips: {error}. Remove it and run: audioml run ingest"
        ) from None


def _read_group(file: pq.ParquetFile, path: Path, group: int, rows: Sequence[int]) -> Iterator[tuple[str, bytes]]:
    try:
        table = file.read_row_group(group)
        clip_ids = table["clip_id"].to_pylist()
        audio = table["audio"].combine_chunks().field("bytes")
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise StoreError(f"{path} is damaged: {error}. Find all such shards with: audioml check --deep") from None
    for row in rows:
        data = audio[row].as_py()
        if data is None or hash_bytes(data) != clip_ids[row]:
            raise StoreError(
                f"{path} is damaged: the bytes of clip {str(clip_ids[row])[:12]} do not match its SHA-256. Find all "
                "such shards, so that the next run packs them again, with: audioml check --deep"
            )
        yield clip_ids[row], data


def _to_batch(clips: Sequence[Clip]) -> pa.RecordBatch:
    audio = pa.StructArray.from_arrays(
        [pa.array([c.data for c in clips], pa.binary()), pa.array([c.path for c in clips], pa.string())],
        fields=list(SCHEMA.field("audio").type),
    )
    return pa.RecordBatch.from_arrays([pa.array([c.clip_id for c in clips], pa.string()), audio], schema=SCHEMA)
