"""Where a registered version comes from: the run that trained it, its data, its code."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from audioml.registry.lineage import DATASET_TAG, VERSION_TAG
from audioml.registry.runs import STANDS_FOR_TAG
from audioml.registry.training_sets import read_mark
from audioml.registry.versions import RegisteredVersion

if TYPE_CHECKING:
    from mlflow.entities import Run

COMMIT_TAG, BRANCH_TAG, DIRTY_TAG = (f"mlflow.source.git.{name}" for name in ("commit", "branch", "dirty"))


@dataclass(frozen=True)
class Provenance:
    """What the registry and the training run say of a version. None, or an empty string, is what they don't know."""

    registered: str
    """ISO 8601, in UTC."""
    trained: str
    """When training ended, ISO 8601, in UTC."""
    run_id: str
    run_name: str
    dataset: str
    """Its name."""
    dataset_digest: str
    """MD5 of the manifest, which is also what DVC calls it."""
    clips: int | None
    """Of the whole data set, that for testing included."""
    hours: float | None
    git_commit: str
    git_branch: str
    git_changed: bool
    """Whether the workspace had changes that the commit has not."""
    audioml_version: str
    confidence: float | None
    """Of the intervals beside the metrics."""
    withdrawn: dict[str, Any] | None = None
    """What `audioml.registry.training_sets.read_mark` says: recordings behind it that were withdrawn since."""


def trace_version(version: RegisteredVersion) -> Provenance:
    """Return where a version comes from.

    Needs `audioml.registry.tracking.tracking` around it.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    client = mlflow.MlflowClient()
    model = client.get_model_version(version.name, str(version.version))
    try:
        run: Run | None = client.get_run(version.run_id) if version.run_id else None
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        run = None
    tags = run.data.tags if run else {}
    # A run that stands for one on another server ended when it began.
    ended_ms = run.info.end_time if run and STANDS_FOR_TAG not in tags else None
    dataset, profile = _dataset_of(run)
    confidence = run.data.params.get("evaluate.confidence") if run else None
    return Provenance(
        registered=_time(model.creation_timestamp),
        trained=_time(ended_ms) if ended_ms else "",
        run_id=tags.get(STANDS_FOR_TAG, version.run_id),
        run_name=(run.info.run_name or "") if run else "",
        dataset=dataset,
        dataset_digest=model.tags.get(DATASET_TAG, ""),
        clips=None if (clips := profile.get("clips")) is None else int(clips),
        hours=profile.get("hours"),
        git_commit=tags.get(COMMIT_TAG, ""),
        git_branch=tags.get(BRANCH_TAG, ""),
        git_changed=tags.get(DIRTY_TAG) == "true",
        audioml_version=model.tags.get(VERSION_TAG, ""),
        confidence=None if confidence is None else float(confidence),
        withdrawn=read_mark(model.tags),
    )


def _dataset_of(run: Run | None) -> tuple[str, dict[str, Any]]:
    inputs = run.inputs.dataset_inputs if run and run.inputs else []
    for dataset in (entry.dataset for entry in inputs):
        profile = json.loads(dataset.profile or "{}")
        if "clips" in profile:
            return str(dataset.name).removesuffix("-audio"), profile
    return "", {}


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
