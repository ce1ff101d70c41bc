"""What OpenAPI says of requests and answers."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from audioml.serving.invocations import COLUMN

_BINARY = {"type": "string", "format": "binary"}
_FILES = {"type": "array", "items": _BINARY, "minItems": 1}
PREDICT_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {"schema": {"type": "object", "required": ["file"], "properties": {"file": _FILES}}},
        "audio/*": {"schema": _BINARY},
        "application/octet-stream": {"schema": _BINARY},
    },
}
_RECORDING = {"type": "string", "format": "byte", "description": "A whole audio file, as base64."}
_RECORD = {"type": "object", "required": [COLUMN], "properties": {COLUMN: _RECORDING}}
_SPLIT = {
    "type": "object",
    "required": ["columns", "data"],
    "properties": {
        "columns": {"type": "array", "items": {"const": COLUMN}, "minItems": 1, "maxItems": 1},
        "data": {"type": "array", "items": {"type": "array", "items": _RECORDING, "minItems": 1, "maxItems": 1}},
    },
}
INVOCATIONS_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {
                "oneOf": [
                    {"type": "object", "required": [name], "properties": {name: schema}, "additionalProperties": False}
                    for name, schema in (
                        ("dataframe_split", _SPLIT),
                        ("dataframe_records", {"type": "array", "items": _RECORD}),
                        ("instances", {"type": "array", "items": _RECORDING}),
                        ("inputs", {"type": "array", "items": _RECORDING}),
                    )
                ]
            }
        },
        "application/vnd.apache.parquet": {"schema": _BINARY},
    },
}


class Served(BaseModel):
    """The version that answered."""

    name: str
    version: int


class Predicted(BaseModel):
    """An answer. Beside these fields stand those of the task, such as label and probabilities.

    For several files they stand in `predictions`, an item a file, with its name in `file`; a file that could not be
    read has `error` with `reason` and `detail` there.
    """

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)
    model: Served
    request_id: str
    duration_s: float | None = None
    """Of the recording, in seconds."""
    predictions: list[dict[str, Any]] | None = None
    timing_ms: dict[str, float]
    """Milliseconds: receive, predict, total."""


class Scored(BaseModel):
    """An answer by MLflow's scoring protocol: for each row what the task says of it."""

    predictions: list[dict[str, Any]]
