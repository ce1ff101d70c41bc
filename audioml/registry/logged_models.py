"""Packages on the server: upload one as the model that a run made, fetch one into the workspace's cache."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from audioml.errors import RegistryError, StoreError
from audioml.registry.names import metric_name
from audioml.registry.package import MLMODEL, package_digest
from audioml.store.files import remove_leftovers, write_folder_atomic
from audioml.store.locks import hold_lock

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL_TYPE = "audio"
CACHE, LOCK = "models", "fetch.lock"


def log_package(
    client: MlflowClient, package: Path, name: str, run_id: str, metrics: Mapping[str, float], tags: dict[str, str]
) -> str:
    """Upload a package as a logged model of a run, with the run's params and these metrics; return its id.

    An upload that was cut short before stays on the server as pending, and is deleted here.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric

    run = client.get_run(run_id)
    same = [f"tags.`{key}` = '{value}'" for key, value in tags.items()]
    for known in client.search_logged_models([run.info.experiment_id], filter_string=" and ".join(same)):
        if known.status == LoggedModelStatus.READY:
            return str(known.model_id)
        client.delete_logged_model(known.model_id)
    user = {key: value for key, value in run.data.tags.items() if key == "mlflow.user"}
    model = client.create_logged_model(
        run.info.experiment_id, name, run_id, tags=tags | user, params=run.data.params, model_type=MODEL_TYPE
    )
    with tempfile.TemporaryDirectory() as scratch:
        completed = Path(scratch) / "package"
        shutil.copytree(package, completed)
        _complete_mlmodel(completed, run_id, model.model_id, model.artifact_location)
        client.log_model_artifacts(model.model_id, str(completed))
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    inputs = run.inputs.dataset_inputs if run.inputs else []
    dataset = {"dataset_name": inputs[0].dataset.name, "dataset_digest": inputs[0].dataset.digest} if inputs else {}
    now_ms = int(time.time() * 1000)
    logged = [
        Metric(metric_name(name), float(value), now_ms, 0, model_id=model.model_id, run_id=run_id, **dataset)
        for name, value in metrics.items()
    ]
    client.log_batch(run_id, metrics=logged)
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    return str(model.model_id)


def _complete_mlmodel(package: Path, run_id: str, model_id: str, location: str) -> None:
    """Write into the uploaded copy what a package alone cannot know: its run, its id, its time."""
    from mlflow.models import Model

    model = Model.load(str(package))
    model.run_id, model.model_id, model.artifact_path = run_id, model_id, location
    model.utc_time_created = str(datetime.now(UTC).replace(tzinfo=None))
    model.save(str(package / MLMODEL))


def fetch_package(state: Path, uri: str, digest: str) -> Path:
    """Return the folder of a package, downloaded unless the workspace has it already.

    Parameters
    ----------
    state
        The workspace's folder for state.
    uri
        The version, such as ``models:/digits/3``.
    digest
        Its `package_digest`, which names it in the cache.

    Raises
    ------
    RegistryError
        When the version is no package of audioml.
    StoreError
        When what was downloaded does not match the digest.
    """
    if not digest:
        raise RegistryError(
            f"{uri} was not registered by audioml: it has no package digest. Choose another version, or load this "
            "one with MLflow's own tools."
        )
    cached = state / CACHE / digest
    if cached.exists():
        return cached
    with hold_lock(cached.parent / LOCK):
        if cached.exists():
            return cached
        remove_leftovers(cached.parent)
        _download(uri, digest, cached)
    return cached


def _download(uri: str, digest: str, cached: Path) -> None:
    import mlflow

    with write_folder_atomic(cached) as temporary:
        mlflow.artifacts.download_artifacts(uri, dst_path=str(temporary))
        found = package_digest(temporary)
        if found != digest:
            raise StoreError(
                f"The package of {uri} has digest {found[:12]}, but {digest[:12]} was registered: it was changed on "
                "the server. Train and register it anew."
            )
