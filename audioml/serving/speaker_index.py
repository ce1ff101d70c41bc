"""Enrolled speakers: an embedding of each of their recordings, in one file of the workspace's state.

It is Parquet, a row a recording; its metadata hold the index's version and the model that made the embeddings. Each
change replaces the file whole and counts the version up. No earlier version is kept: these are data of persons, and
what is forgotten must be gone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audioml.errors import ParamsError, StoreError, did_you_mean
from audioml.store.files import remove_leftovers, write_atomic
from audioml.store.locks import hold_lock

Floats = NDArray[np.float32]

FOLDER, FILE = "speakers", "index.parquet"
LOCK = "locks/speakers"
METADATA = b"audioml"
UNKNOWN = "unknown"
"""Who speaks where nobody enrolled is near enough; no speaker is called so."""
ENROL = "audioml speakers enrol NAME FILE..."
SCHEMA = pa.schema(
    {"speaker": pa.string(), "path": pa.string(), "sha256": pa.string(), "embedding": pa.list_(pa.float32())}
)


@dataclass(frozen=True)
class Maker:
    """The version of a registered model that made embeddings."""

    name: str
    version: int
    digest: str
    """Of its package: a version of the same number in another registry has another."""
    run_id: str
    """The run that trained it."""

    def __str__(self) -> str:
        return f"{self.name} version {self.version} (package {self.digest[:12]})"


@dataclass(frozen=True, eq=False)
class Recording:
    """One enrolled file."""

    speaker: str
    path: str
    """Absolute."""
    sha256: str
    """Of its bytes, 64 hex digits."""
    embedding: Floats
    """``(n,)``, of length 1."""


@dataclass(frozen=True, eq=False)
class SpeakerIndex:
    """All enrolled recordings."""

    version: int = 0
    """Changes so far."""
    model: Maker | None = None
    """What made all embeddings; None before the first is enrolled."""
    recordings: tuple[Recording, ...] = ()

    @cached_property
    def embeddings(self) -> dict[str, NDArray[np.float64]]:
        """The embeddings of each speaker, float64 ``(recordings, n)``, by name, sorted."""
        own: dict[str, list[Floats]] = {}
        for recording in self.recordings:
            own.setdefault(recording.speaker, []).append(recording.embedding)
        return {name: np.stack(own[name]).astype(np.float64) for name in sorted(own)}

    def change(self, recordings: Iterable[Recording], model: Maker) -> SpeakerIndex:
        """Return the next version, which holds these recordings."""
        return SpeakerIndex(self.version + 1, model, tuple(recordings))

    def mean_embedding(self, speaker: str) -> NDArray[np.float64]:
        """Return the mean of the embeddings of a speaker who is enrolled, made of length 1 again, float64 ``(n,)``."""
        mean = self.embeddings[speaker].mean(axis=0)
        return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12))

    def score_speakers(self, embedding: Floats, k: int) -> dict[str, float]:
        """Return how near each speaker is to an embedding ``(n,)`` of length 1, the nearest first.

        A score is the mean cosine similarity to the `k` nearest of the speaker's own embeddings, or to all where there
        are fewer. (A vote among the `k` nearest of all would favour those who have more recordings enrolled.)
        """
        scores = {name: float(np.sort(own @ embedding)[-k:].mean()) for name, own in self.embeddings.items()}
        return dict(sorted(scores.items(), key=lambda item: -item[1]))

    def check_filled(self) -> None:
        """Raise StoreError where nobody is enrolled."""
        if not self.recordings:
            raise StoreError(f"No speaker is enrolled. Do so with: {ENROL}")

    def check_enrolled(self, speaker: str) -> None:
        """Raise ParamsError where nobody of this name is enrolled."""
        if speaker not in self.embeddings:
            raise ParamsError(
                f"No speaker {speaker!r} is enrolled.{did_you_mean(speaker, self.embeddings)} "
                f"There are {len(self.embeddings)}; see them with: audioml speakers list"
            )


def read_index(state: Path) -> SpeakerIndex:
    """Return the index of a workspace with this folder for state; an empty one if nobody was ever enrolled.

    Raises
    ------
    StoreError
        When its file is damaged, or is no index.
    """
    path = state / FOLDER / FILE
    if not path.exists():
        return SpeakerIndex()
    data = path.read_bytes()
    try:
        table = pq.read_table(pa.BufferReader(data), page_checksum_verification=True)
        header = json.loads(table.schema.metadata[METADATA])
        rows = table.select(SCHEMA.names).to_pylist()
        recordings = [Recording(**{**row, "embedding": np.asarray(row["embedding"], np.float32)}) for row in rows]
        return SpeakerIndex(header["version"], Maker(**header["model"]), tuple(recordings))
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{path} is no index of speakers that can be read ({error}). Bring it back from a backup; or remove it, "
            f"and enrol all speakers anew with: {ENROL}"
        ) from None


@contextmanager
def change_index(state: Path) -> Iterator[SpeakerIndex]:
    """Yield the index, and keep others from changing it within the block. Raises as `read_index`."""
    with hold_lock(state / LOCK):
        remove_leftovers(state / FOLDER)
        yield read_index(state)


def write_index(state: Path, index: SpeakerIndex) -> None:
    """Put an index in the place of the one that there is; needs `change_index` around it."""
    rows = [{**vars(recording), "embedding": recording.embedding.tolist()} for recording in index.recordings]
    header = {"version": index.version, "model": vars(index.model)}
    table = pa.Table.from_pylist(rows, schema=SCHEMA.with_metadata({METADATA: json.dumps(header)}))
    folder = state / FOLDER
    # For nobody else's eyes.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with write_atomic(folder / FILE) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)
