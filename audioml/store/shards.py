"""Feature shards: Arrow IPC files, uncompressed, that training maps into memory instead of reading.

A row is one window of one clip: `clip_id`, `offset_s` (where the window starts in the clip, in seconds) and
`feature` (float32, bins × frames in C order). `index.json` beside the shards lists them in order, with checksums.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from audioml.errors import StoreError
from audioml.store.files import hash_file, read_json, write_atomic

INDEX = "index.json"
SUFFIX = ".arrow"
_REMEDY = "Bring it back with: dvc checkout (or: audioml run featurize)"


def write_shard(
    path: Path,
    clip_ids: Sequence[str],
    offsets_s: ArrayLike,
    features: NDArray[np.float32],
    metadata: Mapping[str, Any] | None = None,
) -> str:
    """Write one shard atomically and return the SHA-256 of its bytes. Equal arguments make equal bytes.

    Parameters
    ----------
    path
        Where the shard goes; an older file there is replaced.
    clip_ids
        One a window.
    offsets_s
        Where each window starts in its clip, in seconds, `(n,)`.
    features
        float32 `(n, bins, frames)`.
    metadata
        JSON value kept in the file's schema beside the shape, such as the params that made the features.
    """
    bins, frames = features.shape[1:]
    flat = np.ascontiguousarray(features, np.float32).reshape(-1)
    columns = {
        "clip_id": pa.array(clip_ids, pa.string()),
        "offset_s": pa.array(np.asarray(offsets_s, np.float64)),
        "feature": pa.FixedSizeListArray.from_arrays(pa.array(flat), bins * frames),
    }
    about = json.dumps({"shape": [bins, frames], **(metadata or {})}, sort_keys=True)
    schema = pa.schema([(name, array.type) for name, array in columns.items()], metadata={"audioml": about})
    batch = pa.RecordBatch.from_arrays(list(columns.values()), schema=schema)
    with write_atomic(path) as temporary:
        with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(batch)
        return hash_file(temporary)


@dataclass(frozen=True)
class Shard:
    """One shard, mapped into memory. Its arrays are read-only views of the file."""

    clip_ids: NDArray[np.object_]
    """`(n,)` strings."""
    offsets_s: NDArray[np.float64]
    """`(n,)` in seconds."""
    features: NDArray[np.float32]
    """`(n, bins, frames)`."""


def read_shard(path: Path) -> Shard:
    """Map one shard into memory.

    Raises
    ------
    StoreError
        When the file is missing or is no whole shard.
    """
    try:
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        bins, frames = json.loads(batch.schema.metadata[b"audioml"])["shape"]
        feature = batch.column("feature").values.to_numpy(zero_copy_only=True)
        offsets_s = batch.column("offset_s").to_numpy(zero_copy_only=True)
        clip_ids = batch.column("clip_id").to_numpy(zero_copy_only=False)
        return Shard(clip_ids, offsets_s, feature.reshape(len(batch), bins, frames))
    except FileNotFoundError:
        raise StoreError(f"The feature shard {path} is missing. {_REMEDY}") from None
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is not a whole feature shard: {error}. Remove it. {_REMEDY}") from None


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """All windows of a workspace, in the order of the index. Pickles as its folder, so workers map the files anew."""

    folder: Path
    index: Mapping[str, Any]
    """The content of index.json."""
    shape: tuple[int, int]
    """(bins, frames) of one window."""
    clip_ids: NDArray[np.object_]
    """`(windows,)` strings."""
    offsets_s: NDArray[np.float64]
    """`(windows,)`: where each window starts in its clip, in seconds."""
    shards: tuple[NDArray[np.float32], ...]
    """Features of each shard, `(n, bins, frames)`, read-only views of the files."""
    starts: NDArray[np.int64]
    """`(shards,)`: the first window of each shard."""

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.clip_ids)

    def take(self, indices: ArrayLike) -> NDArray[np.float32]:
        """Return the features of some windows, in the order given: float32 `(n, bins, frames)`, a copy.

        Raises
        ------
        IndexError
            When an index is not in 0 to `len(self) - 1`.
        """
        wanted = np.asarray(indices, np.int64)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"windows are 0 to {len(self) - 1}, but {wanted.min()} to {wanted.max()} were asked for")
        if len(self.shards) == 1:
            return self.shards[0][wanted]
        taken = np.empty((len(wanted), *self.shape), np.float32)
        shard_of = np.searchsorted(self.starts, wanted, side="right") - 1
        for shard in np.unique(shard_of):
            here = shard_of == shard
            taken[here] = self.shards[shard][wanted[here] - self.starts[shard]]
        return taken

    def __reduce__(self) -> tuple[Callable[[Path], FeatureSet], tuple[Path]]:
        return open_features, (self.folder,)


def read_index(folder: Path) -> dict[str, Any]:
    """Return the content of `index.json`: feature, params, shape, code_version, clips, windows, shards.

    Raises
    ------
    StoreError
        When it is missing or damaged.
    """
    path = folder / INDEX
    try:
        index: dict[str, Any] = read_json(path)
    except FileNotFoundError:
        raise StoreError(f"{path} is missing. Make the features with: audioml run featurize") from None
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {error}. Make it again with: audioml run featurize") from None
    return index


def open_features(folder: Path, verify: bool = False) -> FeatureSet:
    """Map all shards of a folder into memory.

    Parameters
    ----------
    folder
        Holds `index.json` and the shards.
    verify
        Also compare every shard's checksum with the index; this reads all bytes.

    Raises
    ------
    StoreError
        When the index or a shard is missing, damaged, or not what the index says.
    """
    index = read_index(folder)
    bins, frames = index["shape"]
    shards = []
    for entry in index["shards"]:
        file = folder / entry["file"]
        shard = read_shard(file)
        if verify and (found := hash_file(file)) != entry["sha256"]:
            raise StoreError(
                f"{file} has the checksum {found[:12]}…, but {INDEX} says {entry['sha256'][:12]}…. Remove it. {_REMEDY}"
            )
        if shard.features.shape != (entry["rows"], bins, frames):
            raise StoreError(
                f"{file} holds features of shape {shard.features.shape}, but {INDEX} says "
                f"{(entry['rows'], bins, frames)}. Make them again with: audioml run featurize"
            )
        shards.append(shard)
    rows = [len(shard.clip_ids) for shard in shards]
    return FeatureSet(
        folder=folder,
        index=index,
        shape=(bins, frames),
        clip_ids=np.concatenate([np.empty(0, object), *(shard.clip_ids for shard in shards)]),
        offsets_s=np.concatenate([np.empty(0), *(shard.offsets_s for shard in shards)]),
        shards=tuple(shard.features for shard in shards),
        starts=np.cumsum([0, *rows])[: len(rows)].astype(np.int64),
    )
