"""Predictions for files on disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from audioml.errors import DecodeError, SourceError
from audioml.registry.workspace import Workspace
from audioml.serving.model import load_model


def predict_files(ctx: Workspace, files: Iterable[Path], reference: str | None = None) -> list[dict[str, Any]]:
    """Predict on audio files, in order.

    Parameters
    ----------
    ctx
        The workspace.
    files
        Audio files of any format.
    reference
        A model such as ``digits@champion``; None is the champion of the workspace's model.

    Returns
    -------
    list of dict
        For each file its `file`, the `model` (name, version) and the prediction; for a file that cannot be read as
        audio an `error` (reason, detail) instead of the prediction.

    Raises
    ------
    SourceError
        When a file does not exist or is a folder; before any model is loaded.
    """
    paths = list(files)
    check_files(paths)
    model = load_model(ctx, reference)
    source = {"name": model.name, "version": model.version}
    rows = []
    for path in paths:
        row: dict[str, Any] = {"file": str(path), "model": source}
        (answer,) = model.predictor.predict_each([path.read_bytes()])
        if isinstance(answer, DecodeError):
            row["error"] = {"reason": answer.reason, "detail": answer.detail}
        else:
            row |= answer.prediction
        rows.append(row)
    return rows


def check_files(files: Iterable[Path]) -> None:
    """Raise SourceError, which names them, where some of these are no files."""
    if missing := [str(path) for path in files if not path.is_file()]:
        raise SourceError(f"No such file: {', '.join(missing)}. Give the paths of audio files.")
