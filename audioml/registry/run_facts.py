"""What the run behind a version was given: all its params, and the libraries that its package is pinned to."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from audioml.registry.versions import RegisteredVersion

REQUIREMENTS, PYTHON = "requirements.txt", "python_env.yaml"


@dataclass(frozen=True)
class RunFacts:
    """Of one version."""

    params: dict[str, str]
    """Effective ones, with dotted keys; none where the run was deleted."""
    environment: tuple[str, ...]
    """``python==3.11.9`` and the pinned libraries that answer; none where the package is gone."""


def read_run_facts(version: RegisteredVersion) -> RunFacts:
    """Return what the run and the package of a version say. Needs `audioml.registry.tracking.tracking` around it."""
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        params = dict(mlflow.MlflowClient().get_run(version.run_id).data.params) if version.run_id else {}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        params = {}
    return RunFacts(params, _read_environment(version))


def _read_environment(version: RegisteredVersion) -> tuple[str, ...]:
    import mlflow
    import yaml
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory() as scratch:
        try:
            texts = [
                Path(mlflow.artifacts.download_artifacts(f"{version.uri}/{name}", dst_path=scratch)).read_text("utf-8")
                for name in (PYTHON, REQUIREMENTS)
            ]
        except (MlflowException, OSError):
            return ()
    python = yaml.safe_load(texts[0]).get("python", "")
    lines = [line.strip() for line in texts[1].splitlines()]
    return (*([f"python=={python}"] if python else []), *(line for line in lines if line and not line.startswith("#")))
