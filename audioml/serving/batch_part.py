"""One part of a batch: its recordings are read, predicted on and written as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from audioml.audio.decode import AudioInfo
from audioml.errors import DecodeError
from audioml.serving.batch_columns import CLIP_ID, write_rows
from audioml.serving.batch_inputs import read_inputs, read_recordings
from audioml.units import samples_to_seconds

if TYPE_CHECKING:
    from audioml.inference.predictor import Predictor

INPUTS = "inputs.parquet"
TOGETHER = 16
TOGETHER_BYTES = 4_000_000
"""Recordings that go through the model together, at most."""


@dataclass(frozen=True)
class Batch:
    """What any process needs to know to predict a part."""

    source: Path
    """The folder or the table."""
    folder: Path
    """Where parts are written, and the inputs are listed."""
    package: Path
    """The model's files."""
    model: str
    version: int
    schema: pa.Schema

    def path_of(self, part: int) -> Path:
        """Return where a part is written."""
        return self.folder / f"part-{part:06d}.parquet"

    def note_of(self, part: int) -> Path:
        """Return where a process that goes carefully notes the recording that it is at."""
        return self.folder / f"part-{part:06d}.note"


def predict_part(batch: Batch, part: int, blamed: Sequence[int] = (), careful: bool = False) -> int:
    """Predict on the recordings of a part, unless that is done, and return how many they are.

    Parameters
    ----------
    batch
        What is predicted, and by which model.
    part
        Its number.
    blamed
        Positions in the part of recordings that end their process: they are not read.
    careful
        Take one recording at a time, and note its position first.
    """
    inputs = read_inputs(batch.folder / INPUTS, part)
    if batch.path_of(part).exists():
        return len(inputs)
    predictor = _load(batch.package)
    rows: list[dict[str, Any]] = []
    recordings = read_recordings(batch.source, [row for i, row in enumerate(inputs) if i not in blamed])

    def read() -> Iterator[tuple[int, bytes | OSError | None]]:
        for place in range(len(inputs)):
            if careful:
                batch.note_of(part).write_text(str(place))
            yield place, None if place in blamed else next(recordings)

    for group in _group(read(), 1 if careful else TOGETHER):
        readable = [data for _, data in group if isinstance(data, bytes)]
        answers = iter(_answer(predictor, readable))
        for i, data in group:
            answer = next(answers) if isinstance(data, bytes) else _describe_fault(data)
            own = {CLIP_ID: inputs[i]["clip_id"]} if inputs[i]["shard"] is not None else {}
            rows.append({"file": inputs[i]["path"], "model": batch.model, "version": batch.version, **own, **answer})
    write_rows(batch.path_of(part), rows, batch.schema)
    batch.note_of(part).unlink(missing_ok=True)
    return len(inputs)


@cache
def _load(package: Path) -> Predictor:
    from audioml.inference.predictor import Predictor

    return Predictor.load(package)


def _group(
    recordings: Iterable[tuple[int, bytes | OSError | None]], most: int
) -> Iterator[list[tuple[int, bytes | OSError | None]]]:
    group: list[tuple[int, bytes | OSError | None]] = []
    n_bytes = 0
    for place, data in recordings:
        group.append((place, data))
        n_bytes += len(data) if isinstance(data, bytes) else 0
        # At once, and not when the next one comes: whoever goes carefully reads no further before this one is answered.
        if len(group) == most or n_bytes > TOGETHER_BYTES:
            yield group
            group, n_bytes = [], 0
    if group:
        yield group


def _answer(predictor: Predictor, recordings: list[bytes]) -> list[dict[str, Any]]:
    """Return the columns of each recording's answer, or of its fault."""
    return [
        _fault(answer.reason, answer.detail)
        if isinstance(answer, DecodeError)
        else {"duration_s": _duration_s(answer.info), **answer.prediction}
        for answer in predictor.predict_each(recordings)
    ]


def _duration_s(info: AudioInfo) -> float:
    return round(samples_to_seconds(info.n_samples, info.sample_rate), 6)


def _describe_fault(problem: OSError | bytes | None) -> dict[str, Any]:
    if isinstance(problem, FileNotFoundError):
        return _fault("missing", "the file is not there")
    if isinstance(problem, OSError):
        return _fault("unopened", f"cannot be opened: {problem.strerror or problem}")
    return _fault("crash", "reading it ended the process, twice")


def _fault(reason: str, detail: str) -> dict[str, Any]:
    return {"error_reason": reason, "error_detail": detail}
