"""The exact clips of each version, kept with the run that trained it: so the registry alone says who learned from what.

A table is an artifact of the run, named by its hash (`lineage/<hash>.parquet`), and never replaced: where an equal
package is registered again after its test set changed, its version has both.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audioml.errors import RegistryError
from audioml.registry.versions import RegisteredVersion, list_versions
from audioml.registry.workspace import ModelUser
from audioml.store.files import hash_file, write_atomic
from audioml.store.training_clips import INIT_FROM_TAG, read_training_clips

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

FOLDER = "lineage"
"""Of the run's artifacts, and of the copies in a workspace's state."""
NAME_LENGTH = 20
WITHDRAWN_TAG = "audioml.withdrawn"


@dataclass(frozen=True, eq=False)
class Learner:
    """A version that has met some of the clips that were asked for."""

    version: RegisteredVersion
    clips: pd.DataFrame
    """Rows of its table of training clips."""
    via: tuple[str, ...] = ()
    """Where it met none of them itself, but started from the weights of a version that was trained on them: that one's
    ``NAME/VERSION``, or the line up to it."""

    @property
    def learned(self) -> bool:
        """Whether some of the clips are behind its weights, by its own training or that which it started from."""
        return bool(self.clips["split"].eq("train").any())

    def counts(self) -> dict[str, int]:
        """Return the recordings by what they were to it: train, validation, test."""
        recordings = self.clips.drop_duplicates(["path", "split"])["split"].value_counts()
        return {split: int(recordings.get(split, 0)) for split in ("train", "validation", "test")}

    def describe(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "model": self.version.name,
            "version": self.version.version,
            "aliases": list(self.version.aliases),
            "recordings": self.counts(),
            "packaged": int(self.clips["packaged"].sum()) if not self.via else 0,
            "via": list(self.via),
        }


def keep_training_set(version: RegisteredVersion, table: Path) -> None:
    """Keep a table of training clips with a version, unless it has it already.

    Needs `audioml.registry.tracking.tracking` around it.
    """
    import mlflow

    client = mlflow.MlflowClient()
    name = f"{hash_file(table)[:NAME_LENGTH]}.parquet"
    if name in _list_tables(client, version.run_id):
        return
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / name
        shutil.copyfile(table, copy)
        client.log_artifact(version.run_id, str(copy), FOLDER)


def read_training_set(ctx: ModelUser, version: RegisteredVersion) -> pd.DataFrame | None:
    """Return the clips of a version; None where none were kept: it was registered by an earlier audioml, or by others.

    Needs `audioml.registry.tracking.tracking` around it.
    """
    import mlflow

    client = mlflow.MlflowClient()
    names = _list_tables(client, version.run_id) if version.run_id else []
    if not names:
        return None
    return read_training_clips([_fetch(ctx.state, version.run_id, name) for name in names])


def find_learners(ctx: ModelUser, clip_ids: Collection[str], paths: Collection[str] = ()) -> list[Learner]:
    """Return all versions of all models that have met some clips, or started from the weights of one that has.

    Needs `audioml.registry.tracking.tracking` around it.

    Parameters
    ----------
    ctx
        Whose tracking server is asked.
    clip_ids
        SHA-256 of the clips.
    paths
        Paths of recordings that are cut into clips: the workspace's own models met them under these paths, however
        they were cut then.
    """
    versions = {version.key: version for version in list_versions()}
    sources = {key: source for key, version in versions.items() if (source := find_source(version))}
    own = {key: _meet(ctx, version, list(clip_ids), list(paths)) for key, version in versions.items()}
    learners = []
    for key, version in versions.items():
        line = _line_of(key, sources)
        teacher = next((name for name in line if name in own and own[name].learned), None)
        if len(own[key].clips):
            learners.append(own[key])
        elif teacher:
            clips = own[teacher].clips
            via = tuple(line[: line.index(teacher) + 1])
            learners.append(Learner(version, clips[clips["split"] == "train"].reset_index(drop=True), via))
    return learners


def _meet(ctx: ModelUser, version: RegisteredVersion, clip_ids: list[str], paths: list[str]) -> Learner:
    clips = read_training_set(ctx, version)
    if clips is None:
        clips = read_training_clips([])
    met = clips["clip_id"].isin(clip_ids)
    if version.name == ctx.model_name and paths:
        cut = clips["start_s"].gt(0) | clips["path"].duplicated(keep=False)
        met |= clips["path"].isin(paths) & cut
    return Learner(version, clips[met].reset_index(drop=True))


def mark_withdrawn(learners: Sequence[Learner], *, time: str, by: str, reason: str) -> None:
    """Say of versions, by a tag, that recordings behind them were withdrawn.

    Needs `audioml.registry.tracking.tracking` around it.
    """
    import mlflow

    client = mlflow.MlflowClient()
    for learner in learners:
        mark = {
            "recordings": learner.clips["path"].nunique(),
            **learner.counts(),
            "via": list(learner.via),
            "time": time,
            "by": by,
            "reason": reason,
        }
        name, number = learner.version.name, str(learner.version.version)
        client.set_model_version_tag(name, number, WITHDRAWN_TAG, json.dumps(mark, ensure_ascii=False))


def read_mark(tags: dict[str, str]) -> dict[str, Any] | None:
    """Return what the tags of a version say of withdrawn recordings; None where there are none.

    ``recordings``, of them ``train``, ``validation`` and ``test``; ``time``, ``by`` and ``reason`` of the last ones.
    """
    mark: dict[str, Any] | None = json.loads(tags[WITHDRAWN_TAG]) if WITHDRAWN_TAG in tags else None
    return mark


def find_mark(name: str, version: int) -> dict[str, Any] | None:
    """Return what `read_mark` says of a version now. Needs `audioml.registry.tracking.tracking` around it."""
    import mlflow

    return read_mark(mlflow.MlflowClient().get_model_version(name, str(version)).tags)


def find_source(version: RegisteredVersion) -> str:
    """Return the ``NAME/VERSION``, or the path, of the weights that a version's training started from; often none."""
    import mlflow
    from mlflow.exceptions import MlflowException

    if not version.run_id:
        return ""
    try:
        tags = mlflow.MlflowClient().get_run(version.run_id).data.tags
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return ""
    return str(tags.get(INIT_FROM_TAG, ""))


def _line_of(key: str, sources: dict[str, str]) -> list[str]:
    """Return the versions that a version comes from by its weights, the nearest first."""
    line: list[str] = []
    while (key := sources.get(key, "")) and key not in line:
        line.append(key)
    return line


def _list_tables(client: MlflowClient, run_id: str) -> list[str]:
    """Return the names of the tables of a run, sorted; none where it has no such run."""
    from mlflow.exceptions import MlflowException

    try:
        found = client.list_artifacts(run_id, FOLDER)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return []
    return sorted(Path(info.path).name for info in found if info.path.endswith(".parquet"))


def _fetch(state: Path, run_id: str, name: str) -> Path:
    """Return a local copy of a table."""
    import mlflow

    cached = state / FOLDER / name
    if not cached.exists() or hash_file(cached)[:NAME_LENGTH] != cached.stem:
        with tempfile.TemporaryDirectory() as scratch:
            path = mlflow.artifacts.download_artifacts(
                run_id=run_id, artifact_path=f"{FOLDER}/{name}", dst_path=scratch
            )
            if hash_file(Path(path))[:NAME_LENGTH] != cached.stem:
                raise RegistryError(
                    f"The table {FOLDER}/{name} of run {run_id} is not what its name says: it was changed on the "
                    "server. What that version was trained on is not known any more."
                )
            with write_atomic(cached) as temporary:
                shutil.copyfile(path, temporary)
    return cached
