"""Who is enrolled: add recordings of speakers, forget a speaker, embed all anew for another version of the model.

Changes are made one after the other, and are whole or none (`audioml.serving.speaker_index`).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from audioml.errors import DecodeError, ParamsError, SourceError
from audioml.pipeline.progress import show_progress
from audioml.serving.embedder import Embedder, check_model
from audioml.serving.speaker_index import (
    ENROL,
    UNKNOWN,
    Floats,
    Recording,
    SpeakerIndex,
    change_index,
    read_index,
    write_index,
)
from audioml.store.files import hash_bytes, hash_file


def enrol(state: Path, embedder: Embedder, speaker: str, files: Sequence[Path]) -> dict[str, Any]:
    """Add recordings of a speaker; bytes that the speaker has enrolled already add nothing.

    Parameters
    ----------
    state
        The workspace's folder for state.
    speaker
        Any name; a new one is a new speaker.
    files
        Audio files of any format, which exist.

    Returns
    -------
    dict
        ``speaker``; ``added``, paths; ``known``, the ``file`` and the path that it is ``enrolled_as``; ``recordings``,
        how many the speaker has now; ``index``, its version; ``model``.

    Raises
    ------
    DecodeError
        When a file cannot be read as audio; it is named, and none is enrolled.
    ParamsError
        When the name is none, or a file's bytes are enrolled under another one.
    RegistryError
        When the index was made by another version of the model.
    SourceError
        When a file's path is not UTF-8.
    """
    _check_name(speaker)
    with change_index(state) as index:
        check_model(index, embedder)
        added, known = _embed_new(index, embedder, speaker, files)
        if added:
            index = index.change((*index.recordings, *added), embedder.model)
            write_index(state, index)
    counts = {"added": [recording.path for recording in added], "known": known}
    return {"speaker": speaker, **counts, "recordings": len(index.embeddings[speaker]), **_describe(index)}


def forget(state: Path, speaker: str) -> dict[str, Any]:
    """Remove all that the index holds of a speaker; return ``speaker``, how many ``recordings``, ``index``, ``model``.

    Raises
    ------
    ParamsError
        When nobody of this name is enrolled.
    """
    with change_index(state) as index:
        index.check_enrolled(speaker)
        assert index.model is not None
        kept = [recording for recording in index.recordings if recording.speaker != speaker]
        changed = index.change(kept, index.model)
        write_index(state, changed)
    return {"speaker": speaker, "recordings": len(index.embeddings[speaker]), **_describe(changed)}


def list_speakers(state: Path) -> dict[str, Any]:
    """Return ``index``, ``model`` (None before the first enrolment), and ``speakers``: name and ``recordings``."""
    index = read_index(state)
    counts = [{"speaker": name, "recordings": len(own)} for name, own in index.embeddings.items()]
    return {**_describe(index), "speakers": counts}


def rebuild(state: Path, embedder: Embedder) -> dict[str, Any]:
    """Embed all enrolled files anew, for the index to be of this version of the model.

    Returns
    -------
    dict
        ``recordings``, how many; ``index``, ``model``.

    Raises
    ------
    SourceError
        When files are gone, or are others than were enrolled; all are named, and the index stays as it was.
    DecodeError
        When a file cannot be read as audio by this version; it is named, and the index stays as it was.
    StoreError
        When nobody is enrolled.
    """
    with change_index(state) as index:
        index.check_filled()
        _check_unchanged(index.recordings)
        with show_progress() as progress:
            recordings = progress.track(index.recordings, description="rebuild")
            anew = [_embed_anew(embedder, recording) for recording in recordings]
        changed = index.change(anew, embedder.model)
        write_index(state, changed)
    return {"recordings": len(anew), **_describe(changed)}


def _describe(index: SpeakerIndex) -> dict[str, Any]:
    return {"index": index.version, "model": dict(vars(index.model)) if index.model else None}


def _embed_new(
    index: SpeakerIndex, embedder: Embedder, speaker: str, files: Sequence[Path]
) -> tuple[list[Recording], list[dict[str, str]]]:
    """Return recordings of those files that are not enrolled yet, and for others as which they are."""
    by_hash = {recording.sha256: recording for recording in index.recordings}
    added: list[Recording] = []
    known: list[dict[str, str]] = []
    with show_progress() as progress:
        for file in progress.track(files, description="enrol"):
            data = file.read_bytes()
            digest = hash_bytes(data)
            if same := by_hash.get(digest):
                _check_same_speaker(file, speaker, same)
                known.append({"file": str(file), "enrolled_as": same.path})
            else:
                by_hash[digest] = Recording(speaker, _path_of(file), digest, _embed(embedder, file, data))
                added.append(by_hash[digest])
    return added, known


def _path_of(file: Path) -> str:
    path = str(file.resolve())
    try:
        path.encode()
    except UnicodeEncodeError:
        raise SourceError(
            f"The path {path.encode(errors='surrogateescape')!r} is not UTF-8. Rename the file."
        ) from None
    return path


def _embed(embedder: Embedder, file: Path, data: bytes) -> Floats:
    try:
        return embedder.embed(data)
    except DecodeError as error:
        raise DecodeError(error.reason, f"{file}: {error.detail}") from None


def _embed_anew(embedder: Embedder, recording: Recording) -> Recording:
    data = Path(recording.path).read_bytes()
    if hash_bytes(data) != recording.sha256:
        raise _refuse_files([f"{recording.path} (changed, {recording.speaker})"])
    return replace(recording, embedding=_embed(embedder, Path(recording.path), data))


def _check_unchanged(recordings: Sequence[Recording]) -> None:
    """Look at all files before any is embedded, which takes longer."""
    faults = []
    for recording in recordings:
        path = Path(recording.path)
        if not path.is_file():
            faults.append(f"{path} (gone, {recording.speaker})")
        elif hash_file(path) != recording.sha256:
            faults.append(f"{path} (changed, {recording.speaker})")
    if faults:
        raise _refuse_files(faults)


def _refuse_files(faults: Sequence[str]) -> SourceError:
    return SourceError(
        f"Not as when they were enrolled: {', '.join(faults)}. The index stays as it was. Put these files back; or "
        f"forget their speakers (audioml speakers forget NAME), rebuild, and enrol them anew ({ENROL})."
    )


def _check_name(speaker: str) -> None:
    if not speaker.strip() or not speaker.isprintable():
        raise ParamsError(f"{speaker!r} is no name of a speaker. Give one that can be read and printed: {ENROL}")
    if speaker == UNKNOWN:
        raise ParamsError(
            f"A speaker cannot be called {UNKNOWN!r}, as that is the answer for a voice that nobody enrolled has. "
            "Choose another name."
        )


def _check_same_speaker(file: Path, speaker: str, same: Recording) -> None:
    if same.speaker != speaker:
        raise ParamsError(
            f"{file} cannot be enrolled as {speaker!r}: the same bytes are enrolled as {same.speaker!r} "
            f"({same.path}). Nothing was enrolled. Leave the file out; or, where {same.speaker!r} is wrong, first: "
            f"audioml speakers forget {shlex.quote(same.speaker)}"
        )
