"""Two registered versions on the same clips: the workspace's test set, from audio bytes, each by its own features."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from audioml.errors import DatasetError, RegistryError
from audioml.registry.logged_models import fetch_package
from audioml.registry.package import ARTIFACTS
from audioml.registry.versions import RegisteredVersion
from audioml.registry.workspace import Workspace
from audioml.store.clips import FOLDER, read_clips
from audioml.store.features import INDEX, read_index
from audioml.store.files import hash_file, hash_json, read_json, write_json
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits
from audioml.tasks._outputs import join, resampler

if TYPE_CHECKING:
    import pandas as pd

    from audioml.evaluation.paired import Metric
    from audioml.inference.predictor import Predictor

FEATURES, CACHE = "features", "compared"
BATCH_CLIPS, BATCH_S = 16, 600.0
"""Clips that are predicted at a time, and seconds of them, which bound the memory."""
SHOWN_CLIPS = 20
"""Clips that are named on either side, at most."""


@dataclass(frozen=True, eq=False)
class _Judged:
    """How a version does on clips."""

    scores: NDArray[np.float64]
    """Numerator and denominator of each clip, ``(clips, 2)``."""
    metric: Metric | None
    """The primary metric, where it is no ratio of their sums."""


def compare_versions(ctx: Workspace, challenger: RegisteredVersion, champion: RegisteredVersion) -> dict[str, Any]:
    """Run two versions on the workspace's test clips and compare them clip by clip.

    What was found is kept in the workspace's state for these packages, clips and params, so that a promotion which
    follows a comparison does not compute it again. Needs `audioml.registry.tracking.tracking` around it.

    Returns
    -------
    dict
        JSON values: the fields of `audioml.evaluation.paired.Comparison` (ours is the challenger), with the paths of
        the first clips in `gained` and `lost`, and `n_gained`, `n_lost`, `confidence`.

    Raises
    ------
    RegistryError
        When the workspace has no test clips, these give no such metric, or a version cannot be judged on them: it does
        not know their labels, is of another task, or is no package of audioml.
    ParamsError, StoreError, DecodeError
        When a version was made with plug-ins that are no more, or a file is damaged.
    """
    for path in (MANIFEST, SPLITS, FOLDER):
        if not ctx.path(path).exists():
            raise RegistryError(f"{path} is missing in {ctx.workspace}, so there are no clips to compare versions on.")
    params = ctx.params.evaluate
    inputs = {path: hash_file(ctx.path(path)) for path in (MANIFEST, SPLITS)}
    unread = sorted(_unreadable(ctx))
    settings = [ctx.params.seed, ctx.params.split.group, params.bootstrap_samples, params.confidence]
    key = hash_json([challenger.package_digest, champion.package_digest, inputs, unread, settings])
    kept: Path = ctx.state / CACHE / f"{key[:32]}.json"
    if not kept.exists():
        write_json(kept, _compare(ctx, challenger, champion))
    found: dict[str, Any] = read_json(kept)
    return found


def _compare(ctx: Workspace, challenger: RegisteredVersion, champion: RegisteredVersion) -> dict[str, Any]:
    from audioml.evaluation.intervals import group_clips
    from audioml.evaluation.paired import compare_paired

    manifest, splits = read_manifest(ctx.path(MANIFEST)), read_splits(ctx.path(SPLITS))
    chosen = set(splits.loc[splits["split"] == "test", "clip_id"]) - _unreadable(ctx)
    test = manifest[manifest["clip_id"].isin(chosen)].reset_index(drop=True)
    if test.empty:
        raise RegistryError(f"{SPLITS} has no test clips to compare versions on.")
    versions, own = (challenger, champion), ctx.params.task.name
    predictors = [_load(ctx, version) for version in versions]
    for predictor, version in zip(predictors, versions, strict=True):
        if (name := predictor.description.task["name"]) != own:
            raise RegistryError(f"Version {version.version} is for the task {name}, not {own}, as params.yaml has it.")
    judged = _judge(ctx, predictors, versions, test)
    params, grouping = ctx.params.evaluate, group_clips(test, ctx.params.split.group)
    found = compare_paired(
        judged[0].scores,
        judged[1].scores,
        params.bootstrap_samples,
        params.confidence,
        np.random.default_rng(ctx.params.seed),
        grouping.groups if grouping else None,
        getattr(predictors[0].task, "HIGHER_IS_BETTER", True),
        (judged[0].metric, judged[1].metric) if judged[0].metric and judged[1].metric else None,
    )
    if math.isnan(found.difference):
        raise RegistryError(f"The {len(test)} test clips in {ctx.workspace} give no metric to compare.")
    paths = test["path"].tolist()
    return asdict(found) | {
        "confidence": params.confidence,
        "n_gained": len(found.gained),
        "n_lost": len(found.lost),
        "gained": [paths[i] for i in found.gained[:SHOWN_CLIPS]],
        "lost": [paths[i] for i in found.lost[:SHOWN_CLIPS]],
    }


def _unreadable(ctx: Workspace) -> set[str]:
    """Return the clips that gave no features, and so are no part of an evaluation either."""
    if not (ctx.path(FEATURES) / INDEX).exists():
        return set()
    return {entry["clip_id"] for entry in read_index(ctx.path(FEATURES))["quarantine"]}


def _load(ctx: Workspace, version: RegisteredVersion) -> Predictor:
    from audioml.inference.predictor import Predictor

    return Predictor.load(fetch_package(ctx.state, version.uri, version.package_digest) / ARTIFACTS, threads=0)


def _judge(
    ctx: Workspace, predictors: list[Predictor], versions: tuple[RegisteredVersion, ...], test: pd.DataFrame
) -> list[_Judged]:
    """Return how each version does on the test clips."""
    truths = []
    for predictor, version in zip(predictors, versions, strict=True):
        try:
            truths.append(predictor.task.truth(predictor.description.targets, test))
        except DatasetError as error:
            raise RegistryError(f"Version {version.version} cannot be judged on these test clips. {error}") from None
    outputs: list[list[NDArray[Any]]] = [[] for _ in predictors]
    for rows in _batch(test["duration_s"].to_numpy()):
        clips = _read_audio(ctx, test.iloc[rows])
        for i, predictor in enumerate(predictors):
            outputs[i].append(predictor.predict_outputs(clips))
    judged = []
    for predictor, truth, parts in zip(predictors, truths, outputs, strict=True):
        task, given = predictor.task, (predictor.description.targets, truth, join(parts))
        judged.append(_Judged(np.asarray(task.score_clips(*given)), resampler(task, *given)))
    return judged


def _batch(durations_s: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """Return runs of rows that are within the bounds, but for the length of their first one."""
    rows = np.arange(len(durations_s))
    bins = np.stack([rows // BATCH_CLIPS, np.cumsum(durations_s) // BATCH_S])
    return np.split(rows, np.flatnonzero(np.diff(bins, axis=1).any(axis=0)) + 1)


def _read_audio(ctx: Workspace, rows: pd.DataFrame) -> list[bytes]:
    data: dict[str, bytes] = {}
    for shard, clips in rows.groupby("shard"):
        data |= dict(read_clips(ctx.path(FOLDER) / str(shard), clips["row"].tolist()))
    return [data[clip_id] for clip_id in rows["clip_id"]]
