from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audioml.errors import StoreError
from audioml.serving import batch_columns
from audioml.serving.batch_columns import count_errors, join_parts, make_schema, read_about, write_rows
from audioml.tasks import ctc, detection


class Answering:
    """Predicts the same of everything, as a model of a task."""

    def __init__(self, task: Any, answer: dict[str, Any]) -> None:
        self.task, self._answer = task, answer

    def predict(self, clips: Sequence[bytes]) -> list[dict[str, Any]]:
        return [self._answer for _ in clips]


NO_LISTS = SimpleNamespace()


def test_types_are_known_where_lists_are_empty() -> None:
    schema = make_schema(Answering(ctc, {"text": "", "confidence": 0.0, "words": []}), False, {})  # type: ignore[arg-type]
    word = {"word": pa.string(), "onset_s": pa.float64(), "offset_s": pa.float64(), "confidence": pa.float64()}
    assert schema.field("words").type == pa.list_(pa.struct(word))
    assert schema.names == [
        *("file", "model", "version", "duration_s"),
        *("text", "confidence", "words"),
        *("error_reason", "error_detail"),
    ]
    events = make_schema(Answering(detection, {"events": [], "alarms": []}), True, {})  # type: ignore[arg-type]
    assert pa.types.is_struct(events.field("alarms").type.value_type)
    assert events.field("clip_id").type == pa.string()


def test_parts_are_joined_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_columns, "ROWS_AT_ONCE", 3)
    answer = {"label": "dog", "probabilities": {"dog": 0.75, "cat": 0.25}}
    schema = make_schema(Answering(NO_LISTS, answer), False, {"model": "pets", "version": 2})  # type: ignore[arg-type]
    rows: list[dict[str, Any]] = [{"file": f"{i}.wav", "version": 2, **answer} for i in range(8)]
    rows[5] = {"file": "5.wav", "error_reason": "empty", "error_detail": "0 bytes"}
    parts = [tmp_path / f"{i}.parquet" for i in range(4)]
    for i, part in enumerate(parts):
        write_rows(part, rows[2 * i : 2 * i + 2], schema)
    join_parts(tmp_path / "all.parquet", parts, schema)
    found = pq.read_table(tmp_path / "all.parquet").to_pylist(maps_as_pydicts="strict")
    assert found == [dict.fromkeys(schema.names) | row for row in rows]
    assert count_errors(tmp_path / "all.parquet") == 1
    assert read_about(tmp_path / "all.parquet") == {"model": "pets", "version": 2}


@pytest.mark.parametrize("content", ["text", "table"])
def test_a_file_of_something_else_is_left_alone(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.parquet"
    if content == "table":
        pq.write_table(pa.table({"a": [1]}), path)
    else:
        path.write_text(content)
    with pytest.raises(StoreError, match="holds no predictions"):
        read_about(path)
