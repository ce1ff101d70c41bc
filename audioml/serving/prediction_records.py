"""Reading the log of predictions: what a request was answered, what was said of a recording; and taking audio out."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from audioml.inference.reference import MEASURE_TYPES
from audioml.serving.prediction_log import FOLDER, LOCK, SCHEMA
from audioml.store.files import write_atomic
from audioml.store.locks import hold_lock

COLUMNS = [name for name in SCHEMA.names if name not in ("audio", *MEASURE_TYPES)]


def find_request(state: Path, request_id: str) -> list[dict[str, Any]]:
    """Return the rows of one request, without audio, by file and time; `prediction` is decoded, `time` is ISO 8601."""
    return _find(state, "request_id", [request_id])


def find_recordings(state: Path, sha256s: Collection[str]) -> list[dict[str, Any]]:
    """Return the rows of all answers about these recordings, as `find_request` does."""
    return _find(state, "sha256", list(sha256s))


def forget_audio(state: Path, sha256s: Collection[str]) -> int:
    """Remove the kept audio of these recordings from the log, and return from how many rows; the answers stay."""
    forgotten = 0
    with hold_lock(state / LOCK):
        for path in _files(state):
            columns = pq.read_table(path, columns=["sha256"])
            if not pc.any(_among(columns["sha256"], sha256s)).as_py():
                continue
            table = pq.read_table(path, schema=SCHEMA)
            kept = pc.and_(_among(table["sha256"], sha256s), pc.is_valid(table["audio"]))
            if not (rows := pc.sum(kept).as_py()):
                continue
            audio = pc.if_else(kept, pa.scalar(None, pa.binary()), table["audio"])
            with write_atomic(path) as temporary:
                place = table.schema.get_field_index("audio")
                pq.write_table(table.set_column(place, "audio", audio), temporary, compression="zstd")
            forgotten += rows
    return forgotten


def _find(state: Path, column: str, values: Collection[str]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    # A day that ends while this reads becomes one file.
    with hold_lock(state / LOCK, shared=True):
        for path in _files(state):
            table = pq.read_table(path, columns=COLUMNS)
            rows += table.filter(_among(table[column], values)).to_pylist()
    for row in rows:
        row["prediction"], row["time"] = orjson.loads(row["prediction"]), row["time"].isoformat(timespec="milliseconds")
    return sorted(rows, key=lambda row: (row["time"], row["request_id"], row["file"]))


def _files(state: Path) -> list[Path]:
    return sorted((state / FOLDER).glob("day=*/*.parquet"))


def _among(column: pa.ChunkedArray, values: Collection[str]) -> pa.ChunkedArray:
    return pc.is_in(column, value_set=pa.array(list(values), pa.string()))
