"""The table of a batch's predictions: a row a recording, a column a field of the task's answer."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile

from audioml.errors import StoreError
from audioml.store.files import write_atomic

if TYPE_CHECKING:
    from audioml.inference.predictor import Predictor

BEFORE = {"file": pa.string(), "model": pa.string(), "version": pa.int64(), "duration_s": pa.float64()}
AFTER = {"error_reason": pa.string(), "error_detail": pa.string()}
CLIP_ID = "clip_id"
METADATA = b"audioml"
ROWS_AT_ONCE = 8192
"""Rows of a row group, and in memory while parts are joined."""
TYPES = {str: pa.string(), bool: pa.bool_(), int: pa.int64(), float: pa.float64()}


def make_schema(predictor: Predictor, packed: bool, about: Mapping[str, Any]) -> pa.Schema:
    """Return the columns, which are the same for all recordings of a model: those of its answer to a noise.

    Probabilities by label are a map, words and events a list of structs. A recording that cannot be read has its
    `error_reason` and `error_detail`, and null for the rest.

    Parameters
    ----------
    predictor
        The model.
    packed
        The recordings are clips of a workspace, which are told apart by their `clip_id`.
    about
        JSON value that the file keeps in its metadata.
    """
    lists = getattr(predictor.task, "LISTS", {})
    (example,) = predictor.predict([_noise()])
    answer = {name: _type_of(value, lists.get(name)) for name, value in example.items()}
    ids = {CLIP_ID: pa.string()} if packed else {}
    return pa.schema({**BEFORE, **ids, **answer, **AFTER}, metadata={METADATA: json.dumps(about, sort_keys=True)})


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Write rows as a part; what a row does not say is null."""
    with write_atomic(path) as temporary:
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema), temporary, compression="zstd")


def join_parts(path: Path, parts: Sequence[Path], schema: pa.Schema) -> None:
    """Write parts as one file, in order, whole or not at all, with few rows of them in memory at a time."""
    with write_atomic(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        waiting: list[pa.Table] = []
        for part in parts:
            waiting.append(pq.read_table(part, schema=schema))
            if sum(map(len, waiting)) >= ROWS_AT_ONCE:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))


def read_about(path: Path) -> dict[str, Any]:
    """Return what a file says of how it was made.

    Raises
    ------
    StoreError
        When it holds no predictions of a batch.
    """
    try:
        return dict(json.loads(pq.read_schema(path).metadata[METADATA]))
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        raise StoreError(f"{path} is there and holds no predictions. Give another --output, or remove it.") from None


def count_errors(path: Path) -> int:
    """Return how many recordings of a file could not be read."""
    file = pq.ParquetFile(path)
    batches = file.iter_batches(columns=["error_reason"])
    return sum(len(batch) - batch["error_reason"].null_count for batch in batches)


def _type_of(value: Any, item: Any) -> pa.DataType:
    if isinstance(item, dict):
        return pa.list_(pa.struct({name: TYPES[kind] for name, kind in item.items()}))
    if item is not None:
        return pa.list_(TYPES[item])
    if isinstance(value, dict):
        return pa.map_(pa.string(), pa.float64())
    return TYPES[type(value)]


def _noise() -> bytes:
    buffer = io.BytesIO()
    soundfile.write(
        buffer, 0.1 * np.random.default_rng(0).standard_normal(16000), 16000, format="WAV", subtype="PCM_16"
    )
    return buffer.getvalue()
