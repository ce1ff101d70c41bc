"""The clips behind a package: those that it carries (an example of its input, golden clips, a reference), and all."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pandas as pd

from audioml.inference.reference import ReferenceClip
from audioml.pipeline.context import Context
from audioml.store.clips import FOLDER, read_clips
from audioml.store.features import FeatureSet
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits

MAX_GOLDEN_CLIPS = 8
MAX_GOLDEN_BYTES = 2_000_000
MAX_REFERENCE_CLIPS, MAX_REFERENCE_S = 1000, 7200.0
"""Clips of a split that the reference knows, at most, and seconds of them."""


def read_example(ctx: Context, quarantined: Sequence[str]) -> tuple[str, bytes]:
    """Return id and audio of the shortest training clip that has features, as a small input example."""
    return _read(ctx, _clips_of(ctx, "train", quarantined).iloc[:1])[0]


def read_golden(ctx: Context, quarantined: Sequence[str]) -> list[tuple[str, bytes]]:
    """Return id and audio of the golden clips: of validation, or of training where that has none."""
    validation = _clips_of(ctx, "validation", quarantined)
    return _read(ctx, choose_golden(_clips_of(ctx, "train", quarantined) if validation.empty else validation))


def list_training_clips(ctx: Context, features: FeatureSet, packaged: Collection[str]) -> pd.DataFrame:
    """Return the clips that a model was trained, tuned and tested on, as `audioml.store.training_clips` has them.

    Clips without features are left out, as no model has seen them.

    Parameters
    ----------
    ctx
        The workspace.
    features
        Of the model.
    packaged
        Ids of the clips whose audio its package carries.
    """
    manifest, splits = read_manifest(ctx.path(MANIFEST)), read_splits(ctx.path(SPLITS))
    shards = np.searchsorted(features.shard_starts, np.arange(len(features)), side="right") - 1
    files = [entry["file"] for entry in features.index["shards"]]
    shard_of_clip = {clip_id: files[shard] for clip_id, shard in zip(features.clip_ids, shards, strict=True)}
    group = ctx.params.split.group
    clips = manifest.merge(splits[["clip_id", "split"]], on="clip_id")
    clips = clips[clips["clip_id"].isin(list(shard_of_clip))]
    groups = clips[group] if group else pd.Series(None, clips.index, object)
    return pd.DataFrame(
        {
            "clip_id": clips["clip_id"],
            "path": clips["path"],
            "start_s": clips["start_s"],
            "group": [None if pd.isna(value) else str(value) for value in groups],
            "split": clips["split"],
            "features": clips["clip_id"].map(shard_of_clip),
            "packaged": clips["clip_id"].isin(list(packaged)),
        }
    )


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
