"""The recordings of a batch: listed once into a table whose row groups are the parts that are predicted at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from audioml.audio.recordings import is_candidate, is_visible
from audioml.errors import SourceError, did_you_mean
from audioml.store.clips import FOLDER, iter_clips
from audioml.store.files import write_atomic
from audioml.store.manifest import MANIFEST

PART_FILES = 256
PART_BYTES = 64_000_000
"""A part holds no more than these: so much work is lost when a run is killed."""
TABLES = (".csv", ".tsv", ".parquet")
PATH, PACKED = "path", ("clip_id", "shard", "row")
SCHEMA = pa.schema(
    {
        "path": pa.string(),
        "size_bytes": pa.int64(),
        "modified_ns": pa.int64(),
        "clip_id": pa.string(),
        "shard": pa.string(),
        "row": pa.int64(),
    }
)
"""`path` as the source has it, relative to `root_of`. The last three are those of a workspace's manifest, whose clips
are packed; null where recordings are files."""


def write_inputs(source: Path, target: Path) -> None:
    """List the recordings of a folder or a table, a row group a part. Equal recordings make equal files.

    Parameters
    ----------
    source
        A folder, whose recordings are listed with those below, sorted; or a CSV, TSV or Parquet table with a column
        `path`, in its order, relative to the table. In a workspace's own manifest the clips are those that ingest has
        packed.
    target
        The Parquet file to write.

    Raises
    ------
    SourceError
        When there are none, or the table cannot be read, has no column `path`, or a row without one.
    """
    rows = _list_folder(source) if source.is_dir() else _list_table(source)
    first = next(rows, None)
    if first is None:
        raise SourceError(f"There are no recordings in {source}. Give a folder that has some, or a table with rows.")
    with write_atomic(target) as temporary, pq.ParquetWriter(temporary, SCHEMA) as writer:
        for part in _cut(chain([first], rows)):
            writer.write_table(pa.Table.from_pylist(part, SCHEMA))


def count_inputs(table: Path) -> list[int]:
    """Return the number of recordings of each part."""
    metadata = pq.read_metadata(table)
    return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]


def read_inputs(table: Path, part: int) -> list[dict[str, Any]]:
    """Return the rows of one part."""
    rows: list[dict[str, Any]] = pq.ParquetFile(table).read_row_group(part).to_pylist()
    return rows


def is_packed(table: Path) -> bool:
    """Tell whether the recordings are packed clips of a workspace."""
    return read_inputs(table, 0)[0]["shard"] is not None


def first_difference(one: Path, other: Path) -> str:
    """Return the path of the first recording that two tables do not have alike."""
    for old, new in zip_longest(_iterate(one), _iterate(other)):
        if old != new:
            return str(min(row["path"] for row in (old, new) if row))
    return ""


def root_of(source: Path) -> Path:
    """Return the folder that paths are relative to."""
    return source if source.is_dir() else source.parent


def read_recordings(source: Path, rows: list[dict[str, Any]]) -> Iterator[bytes | OSError]:
    """Yield the bytes of each recording, or why it cannot be opened.

    Raises
    ------
    StoreError
        When a shard of packed clips is missing or damaged.
    """
    if rows and rows[0]["shard"] is not None:
        for shard, places in _runs(rows):
            yield from (data for _, data in iter_clips(_shards_of(source) / shard, places))
        return
    for row in rows:
        try:
            yield (root_of(source) / row["path"]).read_bytes()
        except OSError as error:
            yield error


def _runs(rows: list[dict[str, Any]]) -> Iterator[tuple[str, list[int]]]:
    """Yield shards, and the rows of them that follow each other in ascending order."""
    run: list[int] = []
    shard = ""
    for row in rows:
        if run and (row["shard"] != shard or row["row"] <= run[-1]):
            yield shard, run
            run = []
        shard = row["shard"]
        run.append(row["row"])
    if run:
        yield shard, run


def _iterate(table: Path) -> Iterator[dict[str, Any]]:
    for batch in pq.ParquetFile(table).iter_batches():
        yield from batch.to_pylist()


def _cut(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    part: list[dict[str, Any]] = []
    n_bytes = 0
    for row in rows:
        if part and (len(part) == PART_FILES or n_bytes + row["size_bytes"] > PART_BYTES):
            yield part
            part, n_bytes = [], 0
        part.append(row)
        n_bytes += row["size_bytes"]
    yield part


def _list_folder(folder: Path, below: str = "") -> Iterator[dict[str, Any]]:
    with os.scandir(folder / below) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = f"{below}{entry.name}"
        if entry.is_dir(follow_symlinks=False):
            if is_visible(entry.name):
                yield from _list_folder(folder, f"{path}/")
        elif entry.is_file() and is_candidate(entry.name):
            try:
                path.encode()
            except UnicodeEncodeError:
                raise SourceError(f"{folder}: {path!r} is no name in UTF-8. Rename the file.") from None
            yield _describe(folder, path)


def _describe(root: Path, path: str) -> dict[str, Any]:
    """Return what tells whether a file is still the same; of a missing one that it has no bytes."""
    try:
        facts = (root / path).stat()
    except OSError:
        return {"path": path, "size_bytes": 0, "modified_ns": 0}
    return {"path": path, "size_bytes": facts.st_size, "modified_ns": facts.st_mtime_ns}


def _list_table(table: Path) -> Iterator[dict[str, Any]]:
    if not table.exists():
        raise SourceError(f"There is no {table}. Give a folder of recordings, or a table with a column {PATH!r}.")
    if table.suffix.lower() not in TABLES:
        raise SourceError(
            f"{table} is neither a folder nor a table ({', '.join(TABLES)}). To predict on single files: "
            f"audioml predict {table}"
        )
    n = 0
    try:
        for batch in _read_batches(table):
            for row in batch.to_pylist():
                n += 1
                if not row[PATH]:
                    raise SourceError(
                        f"{table}: row {n} has no {PATH!r}. Remove the row, or say where its recording is."
                    )
                yield row if "shard" in row else _describe(table.parent, row[PATH])
    except (pa.ArrowException, ValueError, OSError) as error:
        raise SourceError(f"{table} cannot be read as a table: {error}") from None


def _read_batches(table: Path) -> Iterator[pa.RecordBatch]:
    if table.suffix.lower() == ".parquet":
        file = pq.ParquetFile(table)
        _check_column(table, file.schema_arrow.names)
        packed = set(PACKED) <= set(file.schema_arrow.names) and _shards_of(table).is_dir()
        columns = [PATH, "size_bytes", *PACKED] if packed else [PATH]
        yield from file.iter_batches(columns=columns)
        return
    parse = pyarrow.csv.ParseOptions(delimiter="\t" if table.suffix.lower() == ".tsv" else ",")
    with pyarrow.csv.open_csv(table, parse_options=parse) as reader:
        _check_column(table, reader.schema.names)
    # Of the other columns none is looked at: their types may change on the way.
    convert = pyarrow.csv.ConvertOptions(include_columns=[PATH], column_types={PATH: pa.string()})
    with pyarrow.csv.open_csv(table, parse_options=parse, convert_options=convert) as reader:
        yield from reader


def _check_column(table: Path, names: list[str]) -> None:
    if PATH not in names:
        raise SourceError(
            f"{table} has no column {PATH!r}.{did_you_mean(PATH, names)} It has: {', '.join(names)}. "
            f"Name the column of the recordings' paths {PATH!r}."
        )


def _shards_of(manifest: Path) -> Path:
    """Return where a workspace has the shards that its manifest names."""
    return manifest.parent / Path(FOLDER).relative_to(Path(MANIFEST).parent)
