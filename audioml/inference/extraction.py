"""Audio bytes to features: the one path that training's shards, evaluation and serving take.

One clip at a time for an answer, or many at the machine's pace for a shard; a clip's features are the same bytes
either way, on a GPU as near to them as `audioml.features` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audioml.audio.decode import check_rate, decode
from audioml.audio.prepare import prepare_audio
from audioml.clean._chain import Chain
from audioml.errors import DecodeError
from audioml.features._device import extract_on_device, uses_gpu
from audioml.features._window import stores_audio
from audioml.params import FeatureParams
from audioml.plugins import load_plugin

Floats = NDArray[np.float32]

BLOCK_BYTES = 16_000_000
"""Features in a block. A clip is never cut, so one that is larger makes a block of its own."""
GROUP_BYTES = 4_000_000
"""Samples that go through the kernel at once: enough to make little of what a call costs, and still in the cache."""
GPU_GROUP_BYTES = 64_000_000
"""Samples that go to a GPU at once; a block has fewer most of the time."""
NOT_FINITE = "its features are NaN or infinite: its samples are too large for them"


class Failure(NamedTuple):
    """A clip without features, and why."""

    clip_id: str
    reason: str
    """A word of `DecodeError.reason`."""
    detail: str


@dataclass(frozen=True)
class Block:
    """Features of consecutive clips. A clip is in one block only."""

    clip_ids: list[str]
    """One a window."""
    offsets_s: NDArray[np.float64]
    """Where each window starts in its clip, in seconds, `(n,)`."""
    features: Floats | list[Floats]
    """`(n, bins, frames)`; where `length` leaves windows their own length, one `(bins, frames_i)` a window."""
    audio: list[Floats] | None
    """With `keep_audio`, the samples of each window, `(samples_i,)`."""
    failures: list[Failure] = field(default_factory=list)
    """Clips that have no row here: not decoded, or with features that are no finite numbers."""


@dataclass(frozen=True)
class Extractor:
    """How clips become features. Safe to share between threads.

    `params.device` says where blocks are computed. It is not part of what names a shard: shards made on a GPU and on
    a CPU stand beside each other.
    """

    name: str
    """Of the feature plug-in."""
    params: Any
    """The plug-in's own `Params`."""
    chain: Chain = ()
    """What cleans a clip before it is resampled and cut."""

    @cached_property
    def plugin(self) -> ModuleType:
        """The feature plug-in's module."""
        return load_plugin("features", self.name)

    @property
    def has_one_shape(self) -> bool:
        """Whether all windows have the same length."""
        params: FeatureParams = self.params
        return params.length != "whole"

    def extract(self, data: bytes) -> tuple[Floats, NDArray[np.float64]]:
        """Return the features of one clip's windows and where they start; on the CPU, and without torch.

        Returns
        -------
        features
            float32 `(windows, bins, frames)`.
        offsets_s
            float64 `(windows,)`: where each window starts in the clip, in seconds.

        Raises
        ------
        DecodeError
            When the bytes cannot be read as audio, or the features are not finite.
        """
        return self.extract_audio(*decode(data))

    def extract_audio(self, audio: Floats, sample_rate: int) -> tuple[Floats, NDArray[np.float64]]:
        """Return what `extract` does of a file that decodes to this audio.

        Parameters
        ----------
        audio
            float32 `(channels, samples)`, in [-1, 1].
        sample_rate
            In Hz.

        Raises
        ------
        DecodeError
            When there is no sample, no audio has such a rate, or the features are not finite.
        """
        check_rate(sample_rate)
        if not audio.shape[1]:
            raise DecodeError("empty", "there is no sample")
        windows, offsets_s = self.windows_of(audio, sample_rate)
        with np.errstate(over="ignore", invalid="ignore"):
            features: Floats = self.plugin.extract(self.params, windows)
        if not np.isfinite(features).all():
            raise DecodeError("not_finite", NOT_FINITE)
        return features, offsets_s

    def windows(self, data: bytes) -> tuple[Floats, NDArray[np.float64]]:
        """Return a clip's windows as the features see them, float32 `(windows, samples)`, and their offsets in seconds.

        Raises
        ------
        DecodeError
            When the bytes cannot be read as audio.
        """
        return self.windows_of(*decode(data))

    def windows_of(self, audio: Floats, sample_rate: int) -> tuple[Floats, NDArray[np.float64]]:
        """Return the windows of decoded audio, float32 `(channels, samples)`, as `windows` does."""
        return prepare_audio(audio, sample_rate, self.params, self.chain)

    def extract_blocks(self, clips: Iterable[tuple[str, bytes]]) -> Iterator[Block]:
        """Yield the features of many clips in blocks of some 16 MB, in the order of the clips.

        A clip that cannot be read, or whose features are not finite, is a failure of its block and the rest is
        done. Where blocks end depends on the clips alone. Memory is a block's, whatever the number of clips.

        Parameters
        ----------
        clips
            (clip id, whole audio file).

        Raises
        ------
        ParamsError
            When `device` is gpu and there is none.
        """
        builder = _BlockBuilder(self.plugin, self.params, self.has_one_shape, stores_audio(self.name, self.params))
        for clip_id, data in clips:
            try:
                windows, offsets_s = self.windows(data)
            except DecodeError as error:
                builder.failures.append(Failure(clip_id, error.reason, error.detail))
                continue
            builder.add(clip_id, windows, offsets_s)
            if builder.n_bytes >= BLOCK_BYTES:
                yield builder.take()
        if builder.n_bytes or builder.failures:
            yield builder.take()


class _BlockBuilder:
    """Collects windows, has them go through the kernel a group at a time, and makes blocks."""

    def __init__(self, plugin: ModuleType, params: Any, has_one_shape: bool, keeps_audio: bool) -> None:
        self._plugin, self._params = plugin, params
        self._shape: tuple[int, int] | None = plugin.feature_shape(params) if has_one_shape else None
        self._keeps_audio = keeps_audio
        self._on_gpu = uses_gpu(params)
        self._group_bytes = GPU_GROUP_BYTES if self._on_gpu else GROUP_BYTES
        self._begin()

    def _begin(self) -> None:
        self.n_bytes = 0
        self.failures: list[Failure] = []
        self._clip_ids: list[str] = []
        self._offsets_s: list[NDArray[np.float64]] = []
        self._waiting: list[Floats] = []
        self._waiting_bytes = 0
        self._audio: list[Floats] = []
        self._features: list[Floats] = []
        self._not_finite: list[int] = []
        if self._shape:
            window_bytes = 4 * self._shape[0] * self._shape[1]
            self._array = np.empty((BLOCK_BYTES // window_bytes + 1, *self._shape), np.float32)

    def add(self, clip_id: str, windows: Floats, offsets_s: NDArray[np.float64]) -> None:
        """Take the windows of one clip, float32 `(windows, samples)`."""
        bins, frames = self._shape or self._plugin.shape_of(self._params, windows.shape[1])
        self.n_bytes += 4 * len(windows) * bins * frames
        if self._keeps_audio:
            self.n_bytes += windows.nbytes
            self._audio.extend(windows)
        self._clip_ids.append(clip_id)
        self._offsets_s.append(offsets_s)
        self._waiting.extend(windows)
        self._waiting_bytes += windows.nbytes
        if self._waiting_bytes >= self._group_bytes:
            self._extract()

    def take(self) -> Block:
        """Return what was added, and begin anew."""
        self._extract()
        clip_of = np.repeat(np.arange(len(self._clip_ids)), [len(offsets_s) for offsets_s in self._offsets_s])
        offsets_s = np.concatenate([np.empty(0), *self._offsets_s])
        features: Floats | list[Floats] = self._array[: len(clip_of)] if self._shape else self._features
        audio = self._audio if self._keeps_audio else None
        if self._not_finite:
            bad = np.unique(clip_of[self._not_finite])
            self.failures += [Failure(self._clip_ids[clip], "not_finite", NOT_FINITE) for clip in bad]
            kept = np.flatnonzero(~np.isin(clip_of, bad))
            features = [features[i] for i in kept] if isinstance(features, list) else features[kept]
            audio = [audio[i] for i in kept] if audio is not None else None
            clip_of, offsets_s = clip_of[kept], offsets_s[kept]
        block = Block([self._clip_ids[clip] for clip in clip_of.tolist()], offsets_s, features, audio, self.failures)
        self._begin()
        return block

    def _extract(self) -> None:
        windows = self._waiting
        done = len(self._features)
        out = self._make_room(done, windows)
        if self._on_gpu:
            extract_on_device(self._plugin, self._params, windows, out, "cuda")
        else:
            with np.errstate(over="ignore", invalid="ignore"):
                self._plugin.extract_into(self._params, windows, out)
        if not (self._shape and np.isfinite(self._array[done : done + len(out)]).all()):
            self._not_finite += [done + i for i, features in enumerate(out) if not np.isfinite(features).all()]
        self._features += out
        self._waiting, self._waiting_bytes = [], 0

    def _make_room(self, done: int, windows: Sequence[Floats]) -> list[Floats]:
        """Return an array for the features of each window; where all have one shape, rows of the block's array."""
        if not self._shape:
            return [np.empty(self._plugin.shape_of(self._params, len(samples)), np.float32) for samples in windows]
        if done + len(windows) > len(self._array):
            larger = np.empty((done + len(windows), *self._shape), np.float32)
            larger[:done] = self._array[:done]
            self._array = larger
        return list(self._array[done : done + len(windows)])
