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
from audioml.store.files import hash_file, hash_json, read_json, write_atomic, write_json
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits
from audioml.tasks._outputs import join, resampler

if TYPE_CHECKING:
    import pandas as pd

    from audioml.evaluation.paired import Metric
    from audioml.inference.predictor import Predictor

FEATURES, CACHE = "features", "compared"
SCORES = ".parquet"
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
    kept = _place_of(ctx, challenger, champion)
    if not kept.exists():
        found, scores = _compare(ctx, challenger, champion)
        if scores is not None:
            with write_atomic(kept.with_suffix(SCORES)) as temporary:
                scores.to_parquet(temporary)
        write_json(kept, found)
    read: dict[str, Any] = read_json(kept)
    return read


def read_scores(ctx: Workspace, challenger: RegisteredVersion, champion: RegisteredVersion) -> pd.DataFrame | None:
    """Return the test clips with both versions' scores, which `compare_versions` has found; it raises what that does.

    Returns
    -------
    The rows of the manifest, with ``ours``, ``ours_of``, ``theirs`` and ``theirs_of``: numerator and denominator of the
    primary metric. None where the metric is no ratio of their sums.
    """
    compare_versions(ctx, challenger, champion)
    path = _place_of(ctx, challenger, champion).with_suffix(SCORES)
    if not path.exists():
        return None
    import pandas as pd

    manifest = read_manifest(ctx.path(MANIFEST))
    return manifest.merge(pd.read_parquet(path), on="clip_id", how="inner", validate="one_to_one")


def read_test_clips(ctx: Workspace, n: int, generator: np.random.Generator) -> tuple[pd.DataFrame, list[bytes]]:
    """Return so many test clips, drawn at random: rows of the manifest, and their audio files.

    Raises
    ------
    RegistryError
        When the workspace has no data.
    """
    _require_data(ctx)
    test = _read_test(ctx)
    drawn = test.iloc[np.sort(generator.choice(len(test), min(n, len(test)), replace=False))].reset_index(drop=True)
    return drawn, _read_audio(ctx, drawn)


def _place_of(ctx: Workspace, challenger: RegisteredVersion, champion: RegisteredVersion) -> Path:
    """Return where a comparison of these packages on these clips is kept."""
    _require_data(ctx)
    params = ctx.params.evaluate
    inputs = {path: hash_file(ctx.path(path)) for path in (MANIFEST, SPLITS)}
    unread = sorted(_unreadable(ctx))
    settings = [ctx.params.seed, ctx.params.split.group, params.bootstrap_samples, params.confidence]
    key = hash_json([challenger.package_digest, champion.package_digest, inputs, unread, settings])
    place: Path = ctx.state / CACHE / f"{key[:32]}.json"
    return place


def _require_data(ctx: Workspace) -> None:
    for path in (MANIFEST, SPLITS, FOLDER):
        if not ctx.path(path).exists():
            raise RegistryError(f"{path} is missing in {ctx.workspace}, so there are no clips to compare versions on.")


def _read_test(ctx: Workspace) -> pd.DataFrame:
    """Return the rows of the manifest that are in the test set and were judged."""
    manifest, splits = read_manifest(ctx.path(MANIFEST)), read_splits(ctx.path(SPLITS))
    chosen = set(splits.loc[splits["split"] == "test", "clip_id"]) - _unreadable(ctx)
    return manifest[manifest["clip_id"].isin(chosen)].reset_index(drop=True)


def _compare(
    ctx: Workspace, challenger: RegisteredVersion, champion: RegisteredVersion
) -> tuple[dict[str, Any], pd.DataFrame | None]:
    import pandas as pd

    from audioml.evaluation.intervals import group_clips
    from audioml.evaluation.paired import compare_paired

    test = _read_test(ctx)
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
    paths, scores = test["path"].tolist(), None
    if judged[0].metric is None:
        columns = np.concatenate([judged[0].scores, judged[1].scores], axis=1)
        scores = pd.DataFrame(columns, columns=["ours", "ours_of", "theirs", "theirs_of"])
        scores.insert(0, "clip_id", test["clip_id"])
    described = asdict(found) | {
        "confidence": params.confidence,
        "n_gained": len(found.gained),
        "n_lost": len(found.lost),
        "gained": [paths[i] for i in found.gained[:SHOWN_CLIPS]],
        "lost": [paths[i] for i in found.lost[:SHOWN_CLIPS]],
    }
    return described, scores


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
