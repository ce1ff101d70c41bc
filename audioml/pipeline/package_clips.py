"""The recordings that a package is made with: an example of its input, golden clips, and those of the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd

from audioml.inference.reference import ReferenceClip
from audioml.pipeline.context import Context
from audioml.store.clips import FOLDER, read_clips
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits

MAX_GOLDEN_CLIPS = 8
MAX_GOLDEN_BYTES = 2_000_000
MAX_REFERENCE_CLIPS, MAX_REFERENCE_S = 1000, 7200.0
"""Clips of a split that the reference knows, at most, and seconds of them."""


def read_example(ctx: Context, quarantined: Sequence[str]) -> bytes:
    """Return the shortest training clip that has features, as a small input example."""
    return _read(ctx, _clips_of(ctx, "train", quarantined).iloc[:1])[0][1]


def read_golden(ctx: Context, quarantined: Sequence[str]) -> list[tuple[str, bytes]]:
    """Return id and audio of the golden clips: of validation, or of training where that has none."""
    validation = _clips_of(ctx, "validation", quarantined)
    return _read(ctx, choose_golden(_clips_of(ctx, "train", quarantined) if validation.empty else validation))


def choose_golden(clips: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a few small clips of different labels: the smallest of each label first, then the second ones.

    Parameters
    ----------
    clips
        Rows of the manifest, the smallest first.

    Returns
    -------
    At most `MAX_GOLDEN_CLIPS` rows of `MAX_GOLDEN_BYTES` together, but one at least.
    """
    rank = clips.groupby("label", dropna=False).cumcount()
    chosen = clips.iloc[rank.argsort(kind="stable")].head(MAX_GOLDEN_CLIPS)
    fits = chosen["size_bytes"].cumsum() <= MAX_GOLDEN_BYTES
    return chosen.head(max(1, int(fits.sum())))


def iter_reference(ctx: Context, quarantined: Sequence[str]) -> Iterator[ReferenceClip]:
    """Yield the clips of the reference: some of training and some of validation, in the order of their ids.

    Ids are hashes, so that the first ones in their order are drawn at random, and the same ones each time.
    """
    for split in ("train", "validation"):
        rows = _clips_of(ctx, split, quarantined).sort_values("clip_id").drop_duplicates("clip_id")
        named = rows[ctx.params.split.group or "path"]
        groups = named.notna().all() and not named.is_unique
        rows = rows.assign(group=pd.factorize(named)[0]).head(MAX_REFERENCE_CLIPS)
        rows = rows[rows["duration_s"].cumsum() <= MAX_REFERENCE_S]
        for shard, row, group in zip(rows["shard"], rows["row"], rows["group"], strict=True):
            clip_id, audio = read_clips(ctx.path(FOLDER) / shard, [int(row)])[0]
            yield ReferenceClip(clip_id, split, int(group) if groups else None, audio)


def _clips_of(ctx: Context, split: str, quarantined: Sequence[str]) -> pd.DataFrame:
    """Return the rows of a split's clips that have features, the smallest first."""
    manifest, splits = read_manifest(ctx.path(MANIFEST)), read_splits(ctx.path(SPLITS))
    clips = manifest[manifest["clip_id"].isin(splits.loc[splits["split"] == split, "clip_id"])]
    return clips[~clips["clip_id"].isin(quarantined)].sort_values(["size_bytes", "path", "start_s"])


def _read(ctx: Context, rows: pd.DataFrame) -> list[tuple[str, bytes]]:
    """Return id and bytes of clips, in the order of `rows`."""
    places = zip(rows["shard"], rows["row"], strict=True)
    return [read_clips(ctx.path(FOLDER) / shard, [int(row)])[0] for shard, row in places]
