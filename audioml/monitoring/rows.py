"""The rows that are looked at: those of the log of predictions, or of a folder of fresh audio, answered like them."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from audioml.audio.recordings import is_candidate
from audioml.errors import DecodeError, SourceError, StoreError
from audioml.inference.predictor import Predictor
from audioml.inference.reference import MEASURE_TYPES
from audioml.pipeline.progress import show_progress
from audioml.serving.prediction_log import DAY, FOLDER, SCHEMA
from audioml.units import samples_to_seconds

if TYPE_CHECKING:
    import pandas as pd

MAX_FILES = 2000
"""Of a folder of fresh audio; more are drawn from."""
TESTED = tuple(name for name in SCHEMA.names if name not in ("audio", "format", "ms", "size_bytes"))


@dataclass(frozen=True, eq=False)
class Rows:
    """What is compared with the reference."""

    table: pd.DataFrame
    """Columns as in the log of predictions."""
    left_out: int
    """Rows of other versions of the model, or files that cannot be read as audio."""


def list_days(state: Path) -> list[datetime.date]:
    """Return the days that the log has, in order."""
    names = (path.name.removeprefix("day=") for path in (state / FOLDER).glob("day=*"))
    return sorted(datetime.date.fromisoformat(name) for name in names)


def read_log(state: Path, days: Sequence[datetime.date], columns: Sequence[str] = TESTED) -> pd.DataFrame:
    """Read some columns of the log of these days; what an earlier version of audioml did not write is null.

    Raises
    ------
    StoreError
        When a file is damaged.
    """
    schema = pa.schema([SCHEMA.field(name) for name in columns])
    parts = [table for day in days for table in _read_day(state / FOLDER / DAY.format(day), schema)]
    frame: pd.DataFrame = pa.concat_tables(parts or [schema.empty_table()]).to_pandas()
    return frame


def rows_of_log(state: Path, days: Sequence[datetime.date], model: str, version: int) -> Rows:
    """Return what a version of a model answered on these days."""
    table = read_log(state, days)
    own = table[(table["model"] == model) & (table["version"] == version)]
    return Rows(own.reset_index(drop=True), len(table) - len(own))


def rows_of_folder(folder: Path, predictor: Predictor) -> Rows:
    """Answer the recordings of a folder and those below, `MAX_FILES` at most.

    Raises
    ------
    SourceError
        When there are none.
    """
    import pandas as pd

    files = sorted(path for path in folder.rglob("*") if path.is_file() and is_candidate(path.name))
    if not files:
        raise SourceError(f"There are no recordings in {folder}. Give a folder that has some.")
    if len(files) > MAX_FILES:
        files = [files[i] for i in np.random.default_rng(0).choice(len(files), MAX_FILES, replace=False)]
    with show_progress() as progress:
        rows = list(_answer(progress.track(files, description="monitor"), predictor))
    columns = ["duration_s", "sample_rate", "prediction", *MEASURE_TYPES]
    return Rows(pd.DataFrame(rows, columns=columns), len(files) - len(rows))


def _answer(files: Any, predictor: Predictor) -> Iterator[dict[str, Any]]:
    for path in files:
        (answer,) = predictor.predict_each([path.read_bytes()], measured=True)
        if isinstance(answer, DecodeError):
            continue
        assert answer.measures is not None, "it was asked for"
        yield {
            "duration_s": samples_to_seconds(answer.info.n_samples, answer.info.sample_rate),
            "sample_rate": answer.info.sample_rate,
            "prediction": json.dumps(answer.prediction, ensure_ascii=False),
            **answer.measures.values(),
        }


def _read_day(folder: Path, schema: pa.Schema) -> list[pa.Table]:
    """Return the tables of a day, all as they are now: a server may make one file of them at this moment."""
    while True:
        paths = sorted(folder.glob("[!.]*.parquet"))
        try:
            return [_read(path, schema) for path in paths]
        except FileNotFoundError:
            if paths == sorted(folder.glob("[!.]*.parquet")):
                raise


def _read(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        # pyarrow takes the folder's name for a column, unless it is given the open file.
        with path.open("rb") as file:
            parts = pq.ParquetFile(file)
            there = [name for name in schema.names if name in parts.schema_arrow.names]
            table = parts.read(columns=there)
    except pa.ArrowInvalid as error:
        raise StoreError(f"{path} is no part of the log ({error}). Remove it.") from None
    columns = [table[f.name] if f.name in there else pa.nulls(len(table), f.type) for f in schema]
    return pa.Table.from_arrays(columns, schema=schema)
