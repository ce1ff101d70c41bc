from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.neighbors import NearestNeighbors

from audioml.errors import StoreError
from audioml.serving.speaker_index import (
    FILE,
    FOLDER,
    Maker,
    Recording,
    SpeakerIndex,
    change_index,
    read_index,
    write_index,
)

MODEL = Maker("voices", 3, "d" * 64, "run")


def draw_index(n: int = 20, size: int = 5) -> SpeakerIndex:
    """Recordings of three speakers in random order, with embeddings of length 1."""
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((n, size)).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    names = ["bob", "änn", "cy", *rng.choice(["änn", "bob", "cy"], n - 3)]
    return SpeakerIndex(
        4, MODEL, tuple(Recording(name, f"/a/{i}.wav", f"{i:064x}", embeddings[i]) for i, name in enumerate(names))
    )


@pytest.mark.parametrize("k", [1, 3, 50])
def test_a_speaker_is_as_near_as_its_nearest_recordings(k: int) -> None:
    index = draw_index()
    asked = np.eye(5, dtype=np.float32)[0]
    expected = {}
    for name in ("änn", "bob", "cy"):
        own = np.stack([r.embedding for r in index.recordings if r.speaker == name])
        neighbours = NearestNeighbors(n_neighbors=min(k, len(own)), metric="cosine").fit(own)
        expected[name] = 1 - neighbours.kneighbors(asked[None])[0].mean()
    scores = index.score_speakers(asked, k)
    assert scores == pytest.approx(expected, abs=1e-6)
    assert list(scores) == sorted(expected, key=lambda name: -expected[name])


def test_a_mean_embedding_has_length_one() -> None:
    recordings = [Recording("ann", "", "", np.array(e, np.float32)) for e in ([1, 0], [0, 1], [1, 0], [0, 1])]
    assert SpeakerIndex(1, MODEL, tuple(recordings)).mean_embedding("ann") == pytest.approx([0.5**0.5, 0.5**0.5])


def test_what_is_written_is_read_and_for_nobody_elses_eyes(tmp_path: Path) -> None:
    index = draw_index()
    with change_index(tmp_path) as before:
        assert (before.version, before.model, before.recordings) == (0, None, ())
        write_index(tmp_path, index)
    found = read_index(tmp_path)
    assert (found.version, found.model) == (4, MODEL)
    assert list(found.embeddings) == ["bob", "cy", "änn"]
    for ours, theirs in zip(index.recordings, found.recordings, strict=True):
        assert (ours.speaker, ours.path, ours.sha256) == (theirs.speaker, theirs.path, theirs.sha256)
        assert ours.embedding.tobytes() == theirs.embedding.tobytes()
    assert stat.S_IMODE((tmp_path / FOLDER).stat().st_mode) == 0o700


def test_an_index_of_nobody_keeps_its_version(tmp_path: Path) -> None:
    write_index(tmp_path, draw_index().change([], MODEL))
    found = read_index(tmp_path)
    assert (found.version, found.model, found.recordings) == (5, MODEL, ())


def test_a_damaged_file_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    write_index(tmp_path, draw_index())
    path = tmp_path / FOLDER / FILE
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[100] ^= 1
    for damaged in (b"", b"no parquet", whole[: len(whole) // 2], bytes(flipped)):
        path.write_bytes(damaged)
        with pytest.raises(StoreError, match=rf"{path} is no index .*audioml speakers enrol NAME"):
            read_index(tmp_path)
    pq.write_table(pa.table({"speaker": ["ann"]}), path)
    with pytest.raises(StoreError, match="is no index"):
        read_index(tmp_path)


def test_each_change_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    write_index(tmp_path, draw_index())
    (tmp_path / FOLDER / f".{FILE}.x7.tmp").write_bytes(b"embeddings")
    with change_index(tmp_path) as index:
        write_index(tmp_path, index)
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [FILE]
