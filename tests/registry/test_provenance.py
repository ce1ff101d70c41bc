from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

import audioml
from audioml.pipeline.context import Context
from audioml.registry.lineage import dataset_digest
from audioml.registry.provenance import trace_version
from audioml.registry.runs import training_run
from audioml.registry.versions import register_package

pytestmark = pytest.mark.usefixtures("configured")


def test_a_version_says_what_made_it(make_workspace: Callable[[str], Context], package: Path) -> None:
    ctx = make_workspace("traced")
    before = datetime.now(UTC).replace(microsecond=0)
    with training_run(ctx) as tracker:
        pass
    found = trace_version(register_package(ctx, package, tracker.run_id, {}))
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ctx.workspace, capture_output=True, text=True, check=True)
    assert (found.git_commit, found.git_branch, found.git_changed) == (head.stdout.strip(), "main", False)
    assert (found.run_id, found.run_name) == (tracker.run_id, "bcresnet-logmel")
    assert (found.dataset, found.clips, found.hours) == ("traced", 3, 1.0)
    assert found.dataset_digest == dataset_digest(ctx)
    assert (found.audioml_version, found.confidence) == (audioml.__version__, 0.95)
    assert before <= datetime.fromisoformat(found.trained) <= datetime.fromisoformat(found.registered)


def test_a_model_of_another_server_names_its_own_run(make_workspace: Callable[[str], Context], package: Path) -> None:
    ctx = make_workspace("cloned")
    found = trace_version(register_package(ctx, package, "0123456789abcdef0123456789abcdef", {}))
    assert (found.run_id, found.trained) == ("0123456789abcdef0123456789abcdef", "")


def test_a_run_that_was_deleted_for_good_is_not_missed(
    make_workspace: Callable[[str], Context], package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = make_workspace("purged")
    with training_run(ctx) as tracker:
        pass
    version = register_package(ctx, package, tracker.run_id, {})

    def miss(client: mlflow.MlflowClient, run_id: str) -> None:
        raise MlflowException(f"Run '{run_id}' not found", error_code=RESOURCE_DOES_NOT_EXIST)

    monkeypatch.setattr(mlflow.MlflowClient, "get_run", miss)
    found = trace_version(version)
    assert (found.run_name, found.git_commit, found.clips) == ("", "", None)
    assert found.dataset_digest == dataset_digest(ctx)
