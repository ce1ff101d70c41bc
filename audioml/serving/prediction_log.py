"""The log of predictions that monitoring reads: Parquet files by day, written beside the answers by a thread.

A day is a folder, ``day=2026-11-22`` (UTC), of small files while it lasts and of a single one afterwards, so
`pandas.read_parquet` and DuckDB read the whole log, or one day of it, as a table. A server that is killed loses the
rows of its last half minute; one that is stopped loses none.
"""

from __future__ import annotations

import datetime
import logging
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from audioml.audio.decode import AudioInfo
from audioml.errors import StoreError
from audioml.inference.measures import Measures
from audioml.inference.reference import MEASURE_TYPES
from audioml.store.files import hash_bytes, remove_leftovers, write_atomic, write_folder_atomic
from audioml.store.locks import hold_lock
from audioml.units import samples_to_seconds

log = logging.getLogger(__name__)

FOLDER, LOCK = "predictions", "predictions.lock"
DAY = "day={:%Y-%m-%d}"
SCHEMA = pa.schema(
    {
        "time": pa.timestamp("ms", tz="UTC"),
        "request_id": pa.string(),
        "file": pa.int32(),
        "model": pa.string(),
        "version": pa.int32(),
        "role": pa.string(),
        "sha256": pa.string(),
        "format": pa.string(),
        "sample_rate": pa.int32(),
        "channels": pa.int32(),
        "duration_s": pa.float64(),
        "size_bytes": pa.int64(),
        "prediction": pa.string(),
        "ms": pa.float64(),
        "audio": pa.binary(),
        **MEASURE_TYPES,
    }
)
"""One row a recording, or an utterance of a live stream, that was answered: `file` counts recordings of one request
from 0 and utterances from 1, `sha256` is of the file's bytes (the `clip_id` of a manifest), `prediction` is JSON, and
`audio` is null unless the params say that audio is kept. An utterance has neither hash nor bytes. What follows is the
condition of the recording (`audioml.audio.condition`) and its embedding (`audioml.inference.measures`), null of
utterances; logs of earlier versions lack these columns."""
LOOK_S = 0.05
"""Seconds between two looks for rows: many rows at once would keep answers waiting."""
FLUSH_S = 30.0
FLUSH_BYTES = 16_000_000
"""Of kept audio: more is written at once."""
FLUSH_ROWS = 5000
MAX_WAITING = 20_000
"""Rows. A disk that is slower than that loses some, not the server its memory."""


@dataclass(frozen=True)
class Logged:
    """A recording that was answered."""

    request_id: str
    file: int
    model: str
    version: int
    role: str
    audio: bytes | None
    """The file; None for an utterance of a live stream."""
    info: AudioInfo
    prediction: dict[str, Any]
    ms: float
    measures: Measures | None = None


class PredictionLog:
    """Writes rows in a thread of its own. Close it to have the last ones written.

    Parameters
    ----------
    folder
        Of the log; made where there is none. Several servers may write into one.
    share
        Of the rows that are kept, drawn at random.
    keep_audio
        Keep the recordings too.
    days
        After which a day is removed.
    today
        Returns the day that it is, in UTC.
    """

    def __init__(
        self,
        folder: Path,
        share: float = 1.0,
        keep_audio: bool = False,
        days: int = 90,
        today: Callable[[], datetime.date] = lambda: datetime.datetime.now(datetime.UTC).date(),
    ) -> None:
        self._folder, self._share, self._keep_audio, self._days, self._today = folder, share, keep_audio, days, today
        self.lost = 0
        """Rows that could not be written."""
        # Adding to it takes no lock, and wakes no thread.
        self._rows: deque[tuple[float, Logged]] = deque()
        self._ends = threading.Event()
        self._tidied: datetime.date | None = None
        self._thread = threading.Thread(target=self._work, name="prediction-log", daemon=True)
        self._thread.start()

    def add(self, row: Logged) -> None:
        """Have a row written, soon."""
        if random.random() >= self._share:
            return
        if len(self._rows) < MAX_WAITING:
            self._rows.append((time.time(), row))
        else:
            self.lost += 1

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self._ends.set()
        self._thread.join()

    def _work(self) -> None:
        rows: list[tuple[Any, ...]] = []
        n_bytes, written = 0, time.monotonic()
        while True:
            ends = self._ends.wait(LOOK_S)
            while self._rows:
                at_s, row = self._rows.popleft()
                rows.append(self._describe(at_s, row))
                n_bytes += len(row.audio or b"") if self._keep_audio else 0
                if len(rows) >= FLUSH_ROWS or n_bytes >= FLUSH_BYTES:
                    self._flush(rows)
                    rows, n_bytes, written = [], 0, time.monotonic()
            if ends or time.monotonic() - written >= FLUSH_S:
                self._flush(rows)
                rows, n_bytes, written = [], 0, time.monotonic()
            if ends:
                return

    def _flush(self, rows: list[tuple[Any, ...]]) -> None:
        try:
            with hold_lock(self._folder.parent / LOCK):
                if rows:
                    self._write(rows)
                self._tidy()
        except (StoreError, OSError) as error:
            self.lost += len(rows)
            log.error("%d predictions are not in the log: %s", len(rows), error)

    def _describe(self, at_s: float, row: Logged) -> tuple[Any, ...]:
        """Return a row's values, in the order of the schema."""
        info = row.info
        return (
            int(1000 * at_s),
            row.request_id,
            row.file,
            row.model,
            row.version,
            row.role,
            None if row.audio is None else hash_bytes(row.audio),
            f"{info.format} {info.subtype}",
            info.sample_rate,
            info.channels,
            samples_to_seconds(info.n_samples, info.sample_rate),
            None if row.audio is None else len(row.audio),
            orjson.dumps(row.prediction).decode(),
            row.ms,
            row.audio if self._keep_audio else None,
            *(row.measures.values().values() if row.measures else [None] * len(MEASURE_TYPES)),
        )

    def _write(self, rows: list[tuple[Any, ...]]) -> None:
        by_day: dict[str, list[tuple[Any, ...]]] = {}
        for row in rows:
            day = DAY.format(datetime.datetime.fromtimestamp(row[0] / 1000, datetime.UTC))
            by_day.setdefault(day, []).append(row)
        for day, same in by_day.items():
            columns = [
                pa.array(values, kind) for values, kind in zip(zip(*same, strict=True), SCHEMA.types, strict=True)
            ]
            with write_atomic(self._folder / day / f"{uuid.uuid4().hex}.parquet") as temporary:
                pq.write_table(pa.Table.from_arrays(columns, schema=SCHEMA), temporary, compression="zstd")

    def _tidy(self) -> None:
        """Once a day: remove days that are too old, and make one file of each day that is over."""
        today = self._today()
        if self._tidied == today or not self._folder.exists():
            return
        remove_leftovers(self._folder)
        oldest = DAY.format(today - datetime.timedelta(days=self._days))
        for day in sorted(path for path in self._folder.iterdir() if path.name.startswith("day=")):
            if day.name < oldest:
                for path in day.iterdir():
                    path.unlink()
                day.rmdir()
            elif day.name < DAY.format(today) and len(files := sorted(day.glob("*.parquet"))) > 1:
                with write_folder_atomic(day) as temporary:
                    _join(files, temporary / f"{uuid.uuid4().hex}.parquet")
        self._tidied = today


def _join(files: list[Path], path: Path) -> None:
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for file in files:
            with pq.ParquetFile(file) as parts:
                for group in range(parts.num_row_groups):
                    writer.write_table(_complete(parts.read_row_group(group)))


def _complete(table: pa.Table) -> pa.Table:
    """Return rows of an earlier version of audioml with the columns that it did not write, all null."""
    columns = [
        table[name] if name in table.column_names else pa.nulls(len(table), kind)
        for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)
