"""Versions of the registered model: add one, and find one by alias or number."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audioml.errors import RegistryError, did_you_mean
from audioml.registry.history import CHAMPION as CHAMPION
from audioml.registry.history import add_event, read_history
from audioml.registry.lineage import DATASET_TAG, VERSION_TAG, dataset_digest
from audioml.registry.logged_models import fetch_package, log_package
from audioml.registry.names import metric_name
from audioml.registry.package import ARTIFACTS, CHECKPOINT, package_digest
from audioml.registry.runs import find_or_stand_in
from audioml.registry.workspace import ModelUser, Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

CHALLENGER = "challenger"
PACKAGE_TAG = "audioml.package_digest"
MODEL_VERSIONS_TAG = "mlflow.modelVersions"
METRIC_PREFIX = "metric."
REFERENCE = re.compile(r"^(?:models:/)?(?P<name>[^@/:]*)(?:[@/](?P<which>[^@/:]+))?$")
"""``NAME``, ``NAME@ALIAS``, ``NAME@3`` or ``NAME/3``, and ``@ALIAS`` for the workspace's own model."""


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model."""

    name: str
    version: int
    aliases: tuple[str, ...]
    run_id: str
    """The run that trained it."""
    package_digest: str
    metrics: dict[str, float]

    @property
    def key(self) -> str:
        """Return ``NAME/VERSION``, as other runs name it."""
        return f"{self.name}/{self.version}"

    @property
    def uri(self) -> str:
        """The address that MLflow's own tools take."""
        return f"models:/{self.name}/{self.version}"


def register_package(
    ctx: Workspace, package: Path, run_id: str, metrics: Mapping[str, float], *, crown: bool = True
) -> RegisteredVersion:
    """Register a package as a version of the workspace's model, once.

    The version becomes `challenger`, and `champion` where there is none yet. A package that is registered already
    keeps its version, which gets these metrics. Needs `audioml.registry.tracking.tracking` around it.

    Parameters
    ----------
    ctx
        The workspace.
    package
        The folder that `save_package` wrote.
    run_id
        The run that trained the model.
    metrics
        Flat metrics of its evaluation.
    crown
        False leaves it at `challenger`: gates decide on the first champion.
    """
    import mlflow

    client = mlflow.MlflowClient()
    digest = package_digest(package)
    _ensure_model(client, ctx.model_name)
    tags = {f"{METRIC_PREFIX}{metric_name(name)}": repr(float(value)) for name, value in metrics.items()}
    known = client.search_model_versions(f"name = '{ctx.model_name}' and tags.`{PACKAGE_TAG}` = '{digest}'")
    if known:
        number = str(max(int(version.version) for version in known))
        for key, value in tags.items():
            client.set_model_version_tag(ctx.model_name, number, key, value)
    else:
        run_id = find_or_stand_in(client, ctx, run_id)
        tags |= {PACKAGE_TAG: digest, VERSION_TAG: client.get_run(run_id).data.tags.get(VERSION_TAG, "")}
        if dataset := dataset_digest(ctx):
            tags[DATASET_TAG] = dataset
        model_id = log_package(client, package, ctx.model_name, run_id, metrics, {PACKAGE_TAG: digest})
        created = client.create_model_version(
            ctx.model_name, source=f"models:/{model_id}", run_id=run_id, tags=tags, model_id=model_id
        )
        number = str(created.version)
        # MLflow's pages find a model's versions by this tag; its own `register_model` sets it too.
        link = json.dumps([{"name": ctx.model_name, "version": number}])
        client.set_logged_model_tags(model_id, {MODEL_VERSIONS_TAG: link})
    client.set_registered_model_alias(ctx.model_name, CHALLENGER, number)
    first = crown and CHAMPION not in client.get_registered_model(ctx.model_name).aliases
    # Where people decide, they decide on the first one too.
    if first and ctx.params.airflow.promote == "auto":
        events = read_history(client, ctx.model_name)
        add_event(client, ctx, events, "promoted", int(number), by="audioml run register", reason="the first version")
    return _describe(client.get_model_version(ctx.model_name, number))


def resolve(ctx: ModelUser, reference: str | None = None) -> RegisteredVersion:
    """Return the version that a reference names; None is the champion of the workspace's model.

    Needs `audioml.registry.tracking.tracking` around it.

    Raises
    ------
    RegistryError
        When there is no such model, alias or version; the message lists those that there are.
    """
    import mlflow

    client = mlflow.MlflowClient()
    name, which = parse_reference(reference or "", ctx.model_name)
    model = find_model(client, name)
    aliases = {alias: str(version) for alias, version in model.aliases.items()}
    versions = {str(version.version): version for version in client.search_model_versions(f"name = '{name}'")}
    number = which if which in versions else aliases.get(which)
    if number is None or number not in versions:
        raise RegistryError(
            f"Model {name!r} has no version or alias {which!r}.{did_you_mean(which, [*aliases, *versions])} "
            f"Aliases: {', '.join(f'{a} (version {v})' for a, v in sorted(aliases.items())) or 'none'}. "
            f"Versions: {', '.join(sorted(versions, key=int)) or 'none'}."
        )
    return _describe(client.get_model_version(name, number))


def list_versions() -> list[RegisteredVersion]:
    """Return all versions of all models of the registry, by name and number.

    Needs `audioml.registry.tracking.tracking` around it.
    """
    import mlflow

    client = mlflow.MlflowClient()
    names = sorted(model.name for model in _all_pages(client.search_registered_models))
    found = []
    for name in names:
        numbers = [int(v.version) for v in _all_pages(partial(client.search_model_versions, f"name = '{name}'"))]
        # A search does not say which aliases a version has.
        found += [_describe(client.get_model_version(name, str(number))) for number in sorted(numbers)]
    return found


def _all_pages(search: Callable[..., Any]) -> Iterator[Any]:
    token: str | None = None
    while True:
        page = search(page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def fetch_checkpoint(ctx: ModelUser, reference: str) -> tuple[RegisteredVersion, Path]:
    """Return the version that a reference names, and a local file of its weights.

    Needs `audioml.registry.tracking.tracking` around it.

    Raises
    ------
    RegistryError
        When there is no such version, or its package holds no weights to train on.
    StoreError
        When the package was changed on the server.
    """
    version = resolve(ctx, reference)
    path = fetch_package(ctx.state, version.uri, version.package_digest) / ARTIFACTS / CHECKPOINT
    if not path.exists():
        raise RegistryError(
            f"{version.name} version {version.version} holds no weights to start a training from: it was made by a "
            "version of audioml that kept none, or by one that trains without gradient descent. Choose another version."
        )
    return version, path


def parse_reference(reference: str, default_name: str) -> tuple[str, str]:
    """Return (model name, alias or version number) of a reference such as ``digits@champion`` or ``digits/3``.

    Raises
    ------
    RegistryError
        When it is not of that form.
    """
    match = REFERENCE.match(reference)
    if not match:
        raise RegistryError(
            f"{reference!r} does not name a model. Write NAME@ALIAS or NAME/VERSION, such as "
            f"{default_name}@{CHAMPION} or {default_name}/1."
        )
    return match["name"] or default_name, match["which"] or CHAMPION


def find_model(client: MlflowClient, name: str) -> RegisteredModel:
    """Return a registered model.

    Raises
    ------
    RegistryError
        When there is none of that name; the message lists those that there are.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    known = [model.name for model in client.search_registered_models()]
    advice = f"Models: {', '.join(known)}." if known else "None is registered yet; do so with: audioml run register"
    raise RegistryError(f"No model is called {name!r}.{did_you_mean(name, known)} {advice}")


def _ensure_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _describe(version: ModelVersion) -> RegisteredVersion:
    return RegisteredVersion(
        name=version.name,
        version=int(version.version),
        aliases=tuple(sorted(version.aliases)),
        run_id=version.run_id or "",
        package_digest=version.tags.get(PACKAGE_TAG, ""),
        metrics={
            key.removeprefix(METRIC_PREFIX): float(value)
            for key, value in sorted(version.tags.items())
            if key.startswith(METRIC_PREFIX)
        },
    )
