"""All feature shards of a workspace as one sequence of windows.

`index.json` beside the shards lists them in order, with checksums, and says how they were made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audioml.errors import StoreError
from audioml.store.files import hash_file, read_json
from audioml.store.shards import REMEDY, AudioColumn, Floats, Shard, read_shard

INDEX = "index.json"


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """All windows of a workspace, in the order of the index. Pickles as its folder, so workers map the files anew."""

    folder: Path
    index: Mapping[str, Any]
    """The content of index.json."""
    shape: tuple[int, int | None]
    """(bins, frames) of one window; frames is None where each window has its own."""
    clip_ids: NDArray[np.object_]
    """`(windows,)` strings."""
    offsets_s: NDArray[np.float64]
    """`(windows,)`: where each window starts in its clip, in seconds."""
    frames: NDArray[np.int32]
    """`(windows,)`: frames of each window."""
    shard_starts: NDArray[np.int64]
    """`(shards,)`: the first window of each shard."""
    blocks: tuple[Floats, ...]
    """The numbers of each record batch of each shard, one window after the other: read-only views of the files."""
    block_starts: NDArray[np.int64]
    """`(blocks,)`: the first window of each block."""
    positions: NDArray[np.int64]
    """`(windows,)`: where each window starts in its block."""
    audio: AudioColumn | None
    """The samples of all windows, block by block as the features; None where a shard has none."""

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.clip_ids)

    @cached_property
    def quarantined(self) -> dict[str, str]:
        """The clips that could not be made into features, and why: clip_id to reason."""
        return {entry["clip_id"]: entry["reason"] for entry in self.index.get("quarantine", [])}

    def take(self, indices: ArrayLike, fill: ArrayLike = 0.0, out: Floats | None = None) -> Floats:
        """Return a copy of some windows, in the order given: float32 `(n, bins, frames)`.

        Parameters
        ----------
        indices
            Of windows, `(n,)`.
        fill
            What follows windows that are shorter than the longest of these, a number or one a bin, `(bins,)`.
        out
            Where they go, contiguous float32 `(n, bins, frames of the longest)`; None makes an array.

        Raises
        ------
        IndexError
            When an index is not in 0 to `len(self) - 1`.
        """
        wanted = self._check(indices)
        bins, own = self.shape[0], self.frames[wanted]
        longest = int(own.max()) if wanted.size else self.shape[1] or 0
        if out is None:
            out = np.empty((len(wanted), bins, longest), np.float32)
        flat = out.reshape(len(wanted), bins * longest)
        blocks = self._blocks_of(wanted)
        begins = self.positions[wanted]
        ends = (begins + own.astype(np.int64) * bins).tolist()
        for i, (block, begin, end) in enumerate(zip(blocks, begins.tolist(), ends, strict=True)):
            window = self.blocks[block][begin:end]
            if len(window) == flat.shape[1]:
                flat[i] = window
            else:
                n_frames = len(window) // bins
                out[i, :, :n_frames] = window.reshape(bins, n_frames)
                out[i, :, n_frames:] = np.reshape(fill, (-1, 1))
        return out

    def take_audio(self, indices: ArrayLike, out: Floats | None = None) -> Floats:
        """Return a copy of some windows' samples, in the order given: float32 `(n, samples)`, short ones zero-padded.

        Parameters
        ----------
        indices
            Of windows, `(n,)`.
        out
            Where they go, contiguous float32 `(n, samples)`, not shorter than the longest; None makes an array.

        Raises
        ------
        StoreError
            When the shards hold no audio.
        IndexError
            When an index is not in 0 to `len(self) - 1`.
        """
        if self.audio is None:
            raise StoreError(
                f"The feature shards in {self.folder} hold no audio. Set features.keep_audio: true and make them anew "
                "with: audioml run featurize"
            )
        wanted = self._check(indices)
        lengths, begins = self.audio.lengths[wanted].tolist(), self.audio.positions[wanted].tolist()
        if out is None:
            out = np.empty((len(wanted), max(lengths, default=0)), np.float32)
        for row, block, begin, length in zip(out, self._blocks_of(wanted), begins, lengths, strict=True):
            row[:length] = self.audio.blocks[block][begin : begin + length]
            row[length:] = 0.0
        return out

    @cached_property
    def samples(self) -> NDArray[np.int64]:
        """Samples of each window that are kept, `(windows,)`; zeros where none are."""
        return np.zeros(len(self), np.int64) if self.audio is None else self.audio.lengths

    def _check(self, indices: ArrayLike) -> NDArray[np.int64]:
        wanted = np.asarray(indices, np.int64)
        if wanted.size and not 0 <= wanted.min() <= wanted.max() < len(self):
            raise IndexError(f"windows are 0 to {len(self) - 1}, but {wanted.min()} to {wanted.max()} were asked for")
        return wanted

    def _blocks_of(self, wanted: NDArray[np.int64]) -> list[int]:
        blocks: list[int] = (np.searchsorted(self.block_starts, wanted, side="right") - 1).tolist()
        return blocks

    def __reduce__(self) -> tuple[Callable[[Path], FeatureSet], tuple[Path]]:
        return open_features, (self.folder,)


def read_index(folder: Path) -> dict[str, Any]:
    """Return the content of `index.json`: feature, params, shape, code_version, clips, windows, shards, quarantine.

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
    shards = [_open_shard(folder / entry["file"], entry["rows"], bins, frames) for entry in index["shards"]]
    if verify:
        # Hashing releases the GIL.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda entry: _verify(folder / entry["file"], entry["sha256"]), index["shards"]))
    return FeatureSet(
        folder=folder,
        index=index,
        shape=(bins, frames),
        clip_ids=np.concatenate([np.empty(0, object), *(shard.clip_ids for shard in shards)]),
        offsets_s=np.concatenate([np.empty(0), *(shard.offsets_s for shard in shards)]),
        frames=np.concatenate([np.empty(0, np.int32), *(shard.frames for shard in shards)]),
        shard_starts=_starts([len(shard) for shard in shards]),
        blocks=tuple(block for shard in shards for block in shard.blocks),
        block_starts=_starts([rows for shard in shards for rows in shard.block_rows]),
        positions=np.concatenate([np.empty(0, np.int64), *(shard.positions for shard in shards)]),
        audio=_join_audio(shards),
    )


def _open_shard(file: Path, rows: int, bins: int, frames: int | None) -> Shard:
    shard = read_shard(file)
    lengths = sorted({*shard.frames.tolist()} - {frames})
    if (len(shard), shard.bins) != (rows, bins) or (frames is not None and lengths):
        raise StoreError(
            f"{file} holds {len(shard)} windows of {shard.bins} bins and {lengths or frames} frames, but {INDEX} says "
            f"{rows} of {bins} bins and {frames or 'any'} frames. Make them again with: audioml run featurize"
        )
    return shard


def _join_audio(shards: Sequence[Shard]) -> AudioColumn | None:
    columns = [shard.audio for shard in shards if shard.audio is not None]
    if not columns or len(columns) < len(shards):
        return None
    return AudioColumn(
        blocks=tuple(block for column in columns for block in column.blocks),
        positions=np.concatenate([column.positions for column in columns]),
        lengths=np.concatenate([column.lengths for column in columns]),
    )


def _verify(file: Path, expected: str) -> None:
    if (found := hash_file(file)) != expected:
        raise StoreError(
            f"{file} has the checksum {found[:12]}…, but {INDEX} says {expected[:12]}…. Remove it. {REMEDY}"
        )


def _starts(counts: list[int]) -> NDArray[np.int64]:
    return np.cumsum([0, *counts])[:-1].astype(np.int64)
