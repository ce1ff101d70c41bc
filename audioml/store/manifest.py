"""The manifest (the table of clips), the quarantine and the splits: columns, types, reading and writing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from audioml.errors import StoreError
from audioml.store.files import write_atomic

if TYPE_CHECKING:
    import pandas as pd

MANIFEST = "data/manifest.parquet"
QUARANTINE = "data/quarantine.parquet"
SPLITS = "data/splits.parquet"

MANIFEST_TYPES: Mapping[str, pa.DataType] = {
    "clip_id": pa.string(),
    "path": pa.string(),
    "label": pa.string(),
    "shard": pa.string(),
    "row": pa.int64(),
    "start_s": pa.float64(),
    "duration_s": pa.float64(),
    "sample_rate": pa.int64(),
    "channels": pa.int64(),
    "format": pa.string(),
    "subtype": pa.string(),
    "size_bytes": pa.int64(),
    "peak_dbfs": pa.float64(),
    "rms_dbfs": pa.float64(),
    "dc_offset": pa.float64(),
    "clipped_share": pa.float64(),
    "silent_share": pa.float64(),
}
"""Columns that every manifest begins with. `shard` is a file name in data/audio, `row` the row in it,
`start_s` where the clip starts in its recording (0 for a whole one; segments of a recording share their `path`),
`sample_rate` is in Hz. The source's own columns follow, sorted by name."""

RESERVED = frozenset(MANIFEST_TYPES) - {"label"}
"""Names that columns of the source cannot have."""

QUARANTINE_TYPES: Mapping[str, pa.DataType] = {"path": pa.string(), "reason": pa.string(), "detail": pa.string()}
"""One row for each file that is not in the manifest."""

SPLIT_TYPES: Mapping[str, pa.DataType] = {"clip_id": pa.string(), "split": pa.string(), "fold": pa.int64()}
"""`split` is train, validation or test."""

FOLD_TYPES: Mapping[str, pa.DataType] = {"fold_name": pa.string(), "validates": pa.list_(pa.int64())}
"""Further columns of the splits where there is cross-validation. `fold` then counts from 0, with gaps for clips of a
fixed test set, and `validates` lists the folds whose models are validated on the clip."""

SHARE_TYPES: Mapping[str, pa.DataType] = {"share": pa.float64()}
"""A further column of the splits where there is a learning curve: the smallest share of the training clips that has the
clip, null where none has it. Shares are nested: all larger ones have it too."""


def build_manifest(facts: pa.Table, own: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Return the manifest of clips from their facts, one row a clip, and the source's own columns.

    Parameters
    ----------
    facts
        Holds the columns of `MANIFEST_TYPES` but `label`.
    own
        Plain Python values of one type a column, None for gaps; `label` among them.
    """
    frame = _to_frame(facts.select([name for name in MANIFEST_TYPES if name != "label"]))
    return frame.assign(**{name: _to_column(values) for name, values in own.items()})


def build_quarantine(entries: Sequence[tuple[str, str, str]]) -> pd.DataFrame:
    """Return the quarantine of (path, reason, detail)."""
    import pandas as pd

    return pd.DataFrame.from_records(entries, columns=list(QUARANTINE_TYPES))


def write_manifest(path: Path, manifest: pd.DataFrame) -> None:
    """Write a manifest sorted by path and place in the recording; equal tables make equal files."""
    own = sorted(set(manifest.columns) - set(MANIFEST_TYPES))
    ordered = manifest.sort_values(["path", "start_s"], kind="stable")[[*MANIFEST_TYPES, *own]]
    _write(path, ordered, MANIFEST_TYPES)


def read_manifest(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a manifest, or some columns of it: one row a clip, sorted by path, index 0 to n - 1.

    Raises
    ------
    StoreError
        When the file is missing, is no Parquet file or lacks a column.
    """
    return _read(path, MANIFEST_TYPES, "audioml run ingest", columns)


def write_quarantine(path: Path, quarantine: pd.DataFrame) -> None:
    """Write the table of files that are not in the manifest, sorted by path."""
    _write(path, quarantine.sort_values("path", kind="stable")[list(QUARANTINE_TYPES)], QUARANTINE_TYPES)


def read_quarantine(path: Path) -> pd.DataFrame:
    """Read the quarantine: path, reason, detail."""
    return _read(path, QUARANTINE_TYPES, "audioml run ingest")


def write_splits(path: Path, splits: pd.DataFrame) -> None:
    """Write the splits: clip_id, split, fold, and those of `FOLD_TYPES` and `SHARE_TYPES` if there; rows stay."""
    further = [types for types in (FOLD_TYPES, SHARE_TYPES) if set(types) <= set(splits)]
    types = {name: kind for group in (SPLIT_TYPES, *further) for name, kind in group.items()}
    _write(path, splits[list(types)], types)


def read_splits(path: Path) -> pd.DataFrame:
    """Read the splits: clip_id, split (train, validation, test), fold, and those of `FOLD_TYPES` and `SHARE_TYPES`."""
    return _read(path, SPLIT_TYPES, "audioml run split")


def _write(path: Path, frame: pd.DataFrame, types: Mapping[str, pa.DataType]) -> None:
    columns = {name: _to_array(frame[name], types.get(name)) for name in frame.columns}
    with write_atomic(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression="zstd")


def _to_array(column: pd.Series[Any], kind: pa.DataType | None) -> pa.Array:
    array = pa.Array.from_pandas(column, type=kind)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    plain = pa.types.is_large_string(array.type) or pa.types.is_null(array.type)
    return array.cast(pa.string()) if plain else array


def _to_column(values: Sequence[Any]) -> Any:
    """Whole numbers and booleans with gaps get nullable types: pandas would make floats or objects of them."""
    import pandas as pd

    kinds = {type(value) for value in values if value is not None}
    if None in values and kinds in ({int}, {bool}):
        return pd.array(list(values), dtype="Int64" if kinds == {int} else "boolean")
    return list(values)


def _read(
    path: Path, types: Mapping[str, pa.DataType], made_by: str, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    try:
        schema = pq.read_schema(path)
        table = pq.read_table(path, columns=columns)
    except FileNotFoundError:
        raise StoreError(f"{path} is missing. Make it with: {made_by}") from None
    except pa.ArrowInvalid as error:
        raise StoreError(f"{path} is no Parquet file: {error}. Make it again with: {made_by}") from None
    if lack := [name for name in types if name not in schema.names]:
        raise StoreError(f"{path} lacks the column(s) {', '.join(lack)}. Make it again with: {made_by}")
    return _to_frame(table)


def _to_frame(table: pa.Table) -> pd.DataFrame:
    """Convert to pandas; whole numbers and booleans with gaps become nullable types, not floats or objects."""
    import pandas as pd

    frame: pd.DataFrame = table.to_pandas()
    for field in table.schema:
        column = table[field.name]
        if column.null_count and pa.types.is_integer(field.type):
            frame[field.name] = pd.array(column.to_pylist(), dtype="Int64")
        elif column.null_count and pa.types.is_boolean(field.type):
            frame[field.name] = pd.array(column.to_pylist(), dtype="boolean")
    return frame
