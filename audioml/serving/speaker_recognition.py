"""Who speaks: compare recordings with those of enrolled speakers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from audioml.errors import DecodeError, RegistryError
from audioml.pipeline.progress import show_progress
from audioml.serving.embedder import Embedder, check_model
from audioml.serving.speaker_index import UNKNOWN, Floats, SpeakerIndex, read_index

NEAREST = 3
"""Enrolled recordings of a speaker that a recording is compared with: one alone may be a bad one."""


def identify(
    state: Path, embedder: Embedder, files: Sequence[Path], k: int = NEAREST, threshold: float | None = None
) -> list[dict[str, Any]]:
    """Say of each file who speaks.

    Parameters
    ----------
    k
        A speaker's similarity is the mean over that many of its nearest recordings.
    threshold
        Similarity above which it is a speaker; None takes the model's own.

    Returns
    -------
    list of dict
        For each file its ``file``, the ``model``, the ``speaker``, who is `UNKNOWN` where none is near enough, the
        ``nearest`` speaker, the ``similarity`` to that one, and the ``threshold``; for one that cannot be read as audio
        an ``error`` (reason, detail) instead.

    Raises
    ------
    StoreError
        When nobody is enrolled.
    RegistryError
        When the index was made by another version of the model, or the model has no threshold.
    """
    index, least = _read_enrolled(state, embedder), _choose_threshold(embedder, threshold)

    def answer(embedding: Floats) -> dict[str, Any]:
        nearest, similarity = next(iter(index.score_speakers(embedding, k).items()))
        speaker = nearest if similarity > least else UNKNOWN
        return {"speaker": speaker, "nearest": nearest, "similarity": similarity, "threshold": least}

    return _answer_each(embedder, files, answer)


def verify(
    state: Path, embedder: Embedder, speaker: str, files: Sequence[Path], threshold: float | None = None
) -> list[dict[str, Any]]:
    """Say of each file whether an enrolled speaker speaks, by the mean of the speaker's embeddings.

    Returns
    -------
    list of dict
        As `identify`, with the ``speaker`` asked for, ``accepted``, ``similarity`` and ``threshold``.

    Raises
    ------
    ParamsError
        When nobody of this name is enrolled; otherwise as `identify`.
    """
    index, least = _read_enrolled(state, embedder), _choose_threshold(embedder, threshold)
    index.check_enrolled(speaker)
    mean = index.mean_embedding(speaker)

    def answer(embedding: Floats) -> dict[str, Any]:
        similarity = float(mean @ embedding)
        return {"speaker": speaker, "accepted": similarity > least, "similarity": similarity, "threshold": least}

    return _answer_each(embedder, files, answer)


def _read_enrolled(state: Path, embedder: Embedder) -> SpeakerIndex:
    index = read_index(state)
    index.check_filled()
    check_model(index, embedder)
    return index


def _choose_threshold(embedder: Embedder, threshold: float | None) -> float:
    least = embedder.accept_above if threshold is None else threshold
    if least is None:
        raise RegistryError(
            f"{embedder.model} has no threshold of its own, as its validation clips had no pairs both of one speaker "
            "and of two. Give one with --threshold, a cosine similarity such as 0.5."
        )
    return least


def _answer_each(
    embedder: Embedder, files: Sequence[Path], answer: Callable[[Floats], dict[str, Any]]
) -> list[dict[str, Any]]:
    with show_progress() as progress:
        return [_answer(embedder, file, answer) for file in progress.track(files, description="compare")]


def _answer(embedder: Embedder, file: Path, answer: Callable[[Floats], dict[str, Any]]) -> dict[str, Any]:
    row: dict[str, Any] = {"file": str(file), "model": {"name": embedder.model.name, "version": embedder.model.version}}
    try:
        return row | answer(embedder.embed(file.read_bytes()))
    except DecodeError as error:
        return row | {"error": {"reason": error.reason, "detail": error.detail}}
