"""Feature shards: Arrow IPC files, uncompressed, that training maps into memory instead of reading.

A row is one window of one clip: `clip_id`, `offset_s` (where the window starts in the clip, in seconds), `frames`, and
`feature` (float32, bins × frames in C order); where it is kept, `audio` too: the samples that the features were made
of, float32, as float16 would not give the same features again. Rows may differ in frames and samples. A file has as
many record batches as it takes to write it in constant memory, cut by the rows alone, however they come.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from audioml.errors import StoreError
from audioml.store.files import write_atomic

SUFFIX = ".arrow"
BLOCK_BYTES = 8 << 20
"""Features, or audio, in one record batch, which a writer holds in memory; one longer window has its own batch."""
FEATURE, AUDIO = "feature", "audio"
"""Columns of numbers; the second is not in every shard."""
REMEDY = "Bring it back with: dvc checkout (or: audioml run featurize)"
Floats = NDArray[np.float32]


class ShardWriter:
    """Writes one shard as its windows come. The file appears when the block ends without an error, else not at all.

    Equal windows in equal order make equal bytes, however they are divided over calls of `add`.
    """

    sha256: str
    """Of the file's bytes, 64 hex digits; there after the block."""
    size_bytes: int
    """Of the file; there after the block."""
    rows: int
    """Windows in the file after the block."""

    def __init__(
        self, path: Path, bins: int, metadata: Mapping[str, Any] | None = None, keep_audio: bool = False
    ) -> None:
        """Prepare to write to `path`; an older file there is replaced.

        Parameters
        ----------
        path
            Where the shard goes.
        bins
            Of every window.
        metadata
            JSON value kept in the file's schema, such as the params that made the features.
        keep_audio
            Write the windows' samples, too.
        """
        self.path, self.bins, self.rows = path, bins, 0
        about = json.dumps({"bins": bins, **(metadata or {})}, sort_keys=True)
        self._columns = {name: _Column() for name in (FEATURE, AUDIO)[: 1 + keep_audio]}
        self._schema = pa.schema(
            [
                ("clip_id", pa.string()),
                ("offset_s", pa.float64()),
                ("frames", pa.int32()),
                *((name, pa.large_list(pa.float32())) for name in self._columns),
            ],
            metadata={"audioml": about},
        )
        self._clear()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            temporary = stack.enter_context(write_atomic(self.path))
            self._sink = _HashingSink(stack.enter_context(temporary.open("wb")))
            self._writer = stack.enter_context(pa.ipc.new_file(pa.PythonFile(self._sink, mode="w"), self._schema))
            self._open = stack.pop_all()
        return self

    def add(
        self,
        clip_ids: Sequence[str],
        offsets_s: ArrayLike,
        features: Floats | Sequence[Floats],
        audio: Sequence[Floats] | None = None,
    ) -> None:
        """Append windows.

        Parameters
        ----------
        clip_ids
            One a window.
        offsets_s
            Where each window starts in its clip, in seconds, `(n,)`.
        features
            float32 `(n, bins, frames)`, or `n` arrays `(bins, frames)` that may differ in frames. They are copied.
        audio
            With `keep_audio`, `n` arrays float32 `(samples,)`. They are copied.

        Raises
        ------
        ValueError
            When the arguments differ in length, or windows in bins; when there is audio without `keep_audio`, or none
            with it.
        """
        if (audio is not None) != (AUDIO in self._columns):
            raise ValueError("audio is to be given where it is kept, and nowhere else")
        offsets = np.asarray(offsets_s, np.float64)
        for clip_id, offset_s, window, *samples in zip(
            clip_ids, offsets.tolist(), features, *([audio] if audio is not None else []), strict=True
        ):
            if window.ndim != 2 or window.shape[0] != self.bins:
                raise ValueError(f"a window of {clip_id[:12]} has shape {window.shape}, expected ({self.bins}, frames)")
            arrays = (window, *samples)
            if self._frames and not all(map(_Column.has_room, self._columns.values(), arrays)):
                self._flush()
            for column, array in zip(self._columns.values(), arrays, strict=True):
                column.append(array)
            self._clip_ids.append(clip_id)
            self._offsets_s.append(offset_s)
            self._frames.append(window.shape[1])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None:
            self._open.__exit__(kind, error, traceback)
            return
        with self._open:
            if self._frames:
                self._flush()
            self._writer.close()
        self.sha256, self.size_bytes = self._sink.hash.hexdigest(), self._sink.size_bytes

    def _flush(self) -> None:
        columns = [
            pa.array(self._clip_ids, pa.string()),
            pa.array(self._offsets_s, pa.float64()),
            pa.array(self._frames, pa.int32()),
            *(column.take() for column in self._columns.values()),
        ]
        self._writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=self._schema))
        self.rows += len(self._frames)
        self._clear()

    def _clear(self) -> None:
        self._clip_ids: list[str] = []
        self._offsets_s: list[float] = []
        self._frames: list[int] = []


class _Column:
    """Arrays of one record batch, one after the other; the first may be larger than a block."""

    def __init__(self) -> None:
        self._values: Floats = np.empty(BLOCK_BYTES // 4, np.float32)
        self._ends = [0]

    def has_room(self, array: Floats) -> bool:
        return self._ends[-1] + array.size <= len(self._values)

    def append(self, array: Floats) -> None:
        start, end = self._ends[-1], self._ends[-1] + array.size
        if end > len(self._values):
            self._values = np.empty(end, np.float32)
        self._values[start:end].reshape(array.shape)[:] = array
        self._ends.append(end)

    def take(self) -> pa.LargeListArray:
        values = pa.array(self._values[: self._ends[-1]])
        column = pa.LargeListArray.from_arrays(pa.array(self._ends, pa.int64()), values)
        self._ends = [0]
        return column


class _HashingSink:
    """Hashes what is written on its way into a file, which spares reading it again."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.hash, self.size_bytes = file, hashlib.sha256(), 0

    def write(self, data: bytes | pa.Buffer) -> int:
        self.hash.update(data)
        self.file.write(data)
        n_bytes = memoryview(data).nbytes
        self.size_bytes += n_bytes
        return n_bytes

    def flush(self) -> None:
        """Do nothing: `write_atomic` flushes the file to disk."""

    def close(self) -> None:
        """Do nothing: the file is closed by who opened it."""


@dataclass(frozen=True, eq=False)
class AudioColumn:
    """The samples of windows. They are read-only views of the files."""

    blocks: tuple[Floats, ...]
    """The numbers of each record batch, one window after the other."""
    positions: NDArray[np.int64]
    """`(n,)`: where each window starts in its block."""
    lengths: NDArray[np.int64]
    """`(n,)`: samples of each window."""


@dataclass(frozen=True, eq=False)
class Shard:
    """One shard, mapped into memory. Its features are read-only views of the file."""

    bins: int
    clip_ids: NDArray[np.object_]
    """`(n,)` strings."""
    offsets_s: NDArray[np.float64]
    """`(n,)` in seconds."""
    frames: NDArray[np.int32]
    """`(n,)`."""
    blocks: tuple[Floats, ...]
    """The numbers of each record batch, one window after the other."""
    block_rows: NDArray[np.int64]
    """`(blocks,)`: windows in each record batch."""
    positions: NDArray[np.int64]
    """`(n,)`: where each window starts in its block."""
    audio: AudioColumn | None
    """The windows' samples, where they are kept."""

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.clip_ids)


def read_shard(path: Path) -> Shard:
    """Map one shard into memory; no file descriptor stays open.

    Raises
    ------
    StoreError
        When the file is missing or is no whole shard.
    """
    try:
        # The mapping lives as long as the views of it, the descriptor no longer than this block.
        with pa.memory_map(str(path)) as source:
            file = pa.ipc.open_file(source)
            bins = int(json.loads(file.schema.metadata[b"audioml"])["bins"])
            batches = [file.get_batch(i) for i in range(file.num_record_batches)]
        frames = _join(np.int32, [batch.column("frames").to_numpy() for batch in batches])
        features = [batch.column(FEATURE) for batch in batches]
        offsets = [feature.offsets.to_numpy() for feature in features]
        if not np.array_equal(_join(np.int64, [np.diff(o) for o in offsets]), frames.astype(np.int64) * bins):
            raise ValueError("the lengths of its windows do not fit their frames")
        return Shard(
            bins=bins,
            clip_ids=_join(object, [_read_strings(batch.column("clip_id")) for batch in batches]),
            offsets_s=_join(np.float64, [batch.column("offset_s").to_numpy() for batch in batches]),
            frames=frames,
            blocks=tuple(feature.values.to_numpy(zero_copy_only=True) for feature in features),
            block_rows=np.array([len(batch) for batch in batches], np.int64),
            positions=_join(np.int64, [o[:-1] for o in offsets]),
            audio=_read_audio(batches) if AUDIO in file.schema.names else None,
        )
    except FileNotFoundError:
        raise StoreError(f"The feature shard {path} is missing. {REMEDY}") from None
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} is not a whole feature shard: {error}. Remove it. {REMEDY}") from None


def _read_audio(batches: Sequence[pa.RecordBatch]) -> AudioColumn:
    columns = [batch.column(AUDIO) for batch in batches]
    offsets = [column.offsets.to_numpy() for column in columns]
    return AudioColumn(
        blocks=tuple(column.values.to_numpy(zero_copy_only=True) for column in columns),
        positions=_join(np.int64, [o[:-1] for o in offsets]),
        lengths=_join(np.int64, [np.diff(o) for o in offsets]),
    )


def _join(dtype: Any, parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype), *parts])


def _read_strings(column: pa.StringArray) -> NDArray[np.object_]:
    """Return strings, those that are equal as one object: a clip's windows share its id."""
    coded = column.dictionary_encode()
    strings: NDArray[np.object_] = coded.dictionary.to_numpy(zero_copy_only=False)[coded.indices.to_numpy()]
    return strings
