"""MLflow's scoring protocol, so that its clients can ask this server as they ask `mlflow models serve`.

Source: MLflow, "Deploy models locally", https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally. Recordings
are in the column `audio`: as base64 text in JSON, as MLflow has binary columns there, or as bytes in Parquet.
Parameters are not taken: the models have none.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from audioml.serving.problems import RefusalError

COLUMN = "audio"
"""Of the recordings, as in the signature of audioml's packages."""
JSON, PARQUET = "application/json", "application/vnd.apache.parquet"
FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
EXAMPLE = '{"dataframe_split": {"columns": ["audio"], "data": [["UklGRi4..."]]}}'


def read_invocation(content_type: str, body: bytes, max_recordings: int, max_bytes: int) -> list[bytes]:
    """Return the recordings of a request, in order.

    Parameters
    ----------
    content_type
        application/json or application/vnd.apache.parquet, or nothing, which is the first.
    body
        A JSON object with exactly one of ``dataframe_split``, ``dataframe_records``, ``instances`` and ``inputs``; or
        a Parquet file.
    max_recordings, max_bytes
        More are refused; bytes are those of all recordings.

    Raises
    ------
    RefusalError
        400 when it is neither, or a recording is no base64; 413 when there is too much; 415 for other content.
    """
    kind, _, parameters = content_type.lower().partition(";")
    if "charset" in parameters and "utf-8" not in parameters and "utf8" not in parameters:
        raise RefusalError(415, "unsupported", "Only UTF-8 is read.")
    match kind.strip():
        case "" | "application/json":
            recordings = [_decode(i, cell) for i, cell in enumerate(_read_json(body, max_recordings))]
        case "application/vnd.apache.parquet":
            recordings = _read_parquet(body, max_recordings, max_bytes)
        case _:
            raise RefusalError(415, "unsupported", f"The content type is {kind!r}; {JSON} and {PARQUET} are read.")
    return recordings


def _read_json(body: bytes, max_recordings: int) -> list[Any]:
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise _bad("The body is no JSON") from None
    if not isinstance(request, dict) or len(found := [name for name in FORMATS if name in request]) != 1:
        raise _bad(f"The body must be a JSON object with exactly one of {', '.join(FORMATS)}")
    name = found[0]
    if request.get("params"):
        raise _bad("The models of this server take no params")
    cells = _from_split(request[name]) if name == "dataframe_split" else _from_rows(name, request[name])
    _check_count(len(cells), max_recordings)
    return cells


def _read_parquet(body: bytes, max_recordings: int, max_bytes: int) -> list[bytes]:
    try:
        # Read as a dictionary, a recording that is there many times is held once, and what all of them would take is
        # known before it is taken.
        with pq.ParquetFile(io.BytesIO(body), read_dictionary=[COLUMN]) as file:
            _check_count(file.metadata.num_rows, max_recordings)
            column = file.read(columns=[COLUMN]).column(COLUMN)
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)) or column.null_count:
            raise _bad(f"The column {COLUMN!r} must hold bytes in each row, but holds {kind}")
        n_bytes = sum(
            pc.sum(pc.take(pc.binary_length(chunk.dictionary), chunk.indices)).as_py() or 0
            if pa.types.is_dictionary(chunk.type)
            else pc.sum(pc.binary_length(chunk)).as_py() or 0
            for chunk in column.chunks
        )
        if n_bytes > max_bytes:
            raise RefusalError(413, "too_large", f"The recordings have {n_bytes} bytes; at most {max_bytes} are taken.")
        return [bytes(cell) for cell in column.to_pylist()]
    except KeyError:
        raise _bad(f"There is no column {COLUMN!r}") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _bad(f"The body is no Parquet file that can be read ({type(error).__name__})") from None


def _check_count(n: int, most: int) -> None:
    if n > most:
        raise RefusalError(413, "too_many_files", f"There are {n} recordings; at most {most} are taken.")


def _from_split(value: Any) -> list[Any]:
    columns, rows = (value.get("columns"), value.get("data")) if isinstance(value, dict) else (None, None)
    if not isinstance(columns, list) or not isinstance(rows, list):
        raise _bad("dataframe_split must have the lists columns and data")
    if COLUMN not in columns:
        raise _bad(f"There is no column {COLUMN!r}, but {columns}")
    place = columns.index(COLUMN)
    if any(not isinstance(row, list) or len(row) != len(columns) for row in rows):
        raise _bad(f"Each row of data must be a list of {len(columns)}")
    return [row[place] for row in rows]


def _from_rows(name: str, value: Any) -> list[Any]:
    """Return the cells of a list of records, or of a column of cells, or of a mapping from columns to cells."""
    if isinstance(value, dict):
        value = value.get(COLUMN)
        value = [value] if isinstance(value, str) else value
    if not isinstance(value, list):
        raise _bad(f"{name} must be a list of recordings, or of records with the key {COLUMN!r}")
    cells = [cell.get(COLUMN) if isinstance(cell, dict) else cell for cell in value]
    return [cell[0] if isinstance(cell, list) and len(cell) == 1 else cell for cell in cells]


def _decode(row: int, cell: Any) -> bytes:
    if not isinstance(cell, str):
        raise _bad(f"Row {row}: {COLUMN!r} must be a recording as base64 text, but is {type(cell).__name__}")
    try:
        return base64.b64decode(cell, validate=True)
    except (binascii.Error, ValueError):
        raise _bad(f"Row {row}: {COLUMN!r} is no base64") from None


def _bad(what: str) -> RefusalError:
    return RefusalError(400, "bad_request", f"{what}. For example: {EXAMPLE}")
