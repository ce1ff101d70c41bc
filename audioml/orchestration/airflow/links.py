"""Buttons on the pages of Airflow tasks: to the MLflow run, the registered model, the Data Docs, the report.

Airflow asks for a link when its Airflow task ends, in that task's process, and keeps it; the API server shows what was
kept. So a link may read the workspace, and points at what the task just made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink

from audioml.orchestration.airflow.messages import base_url
from audioml.params import load_params
from audioml.registry.tracking import mlflow_url

PREFIX = "/audioml"
"""Where the API server has audioml's pages."""
RUNS = ("models/run.json", ".audioml/training/*/run.json")
"""Who says which MLflow run a training has: the finished one, and one that has begun."""


class _WorkspaceLink(BaseOperatorLink):  # type: ignore[misc]
    """Base: a link that the folder of the operator's workspace decides."""

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Return the address, or an empty string where there is nothing to show."""
        return self.address(Path(operator.workspace))

    def address(self, folder: Path) -> str:
        """Return the address for a workspace."""
        raise NotImplementedError


class MlflowRunLink(_WorkspaceLink):
    """To the MLflow run of the newest training, also of one that failed."""

    name = "MLflow run"

    def address(self, folder: Path) -> str:
        """Return the run's page."""
        records = sorted((path for pattern in RUNS for path in folder.glob(pattern)), key=lambda p: p.stat().st_mtime)
        base = mlflow_url()
        return f"{base}/#/runs/{_read(records[-1])['run_id']}" if records and base else ""


class RegisteredModelLink(_WorkspaceLink):
    """To the workspace's model in the registry."""

    name = "Registered model"

    def address(self, folder: Path) -> str:
        """Return the model's page."""
        base, params = mlflow_url(), load_params(folder)
        return f"{base}/#/models/{quote(params.registry.name or params.name)}" if base else ""


class DataDocsLink(_WorkspaceLink):
    """To the checks of the dataset."""

    name = "Data Docs"

    def address(self, folder: Path) -> str:
        """Return the first page."""
        return report_url(load_params(folder).name, "validation") if _has(folder, "validation") else ""


class ReportLink(_WorkspaceLink):
    """To the evaluation's report."""

    name = "Report"

    def address(self, folder: Path) -> str:
        """Return the report's page."""
        return report_url(load_params(folder).name, "evaluation") if _has(folder, "evaluation") else ""


LINKS: dict[str, tuple[BaseOperatorLink, ...]] = {
    "validate": (DataDocsLink(),),
    "train": (MlflowRunLink(),),
    "evaluate": (ReportLink(), MlflowRunLink()),
    "register": (RegisteredModelLink(),),
}


def links_of(step: str) -> tuple[BaseOperatorLink, ...]:
    """Return the links of a step's Airflow tasks, for `operator_extra_links`."""
    return LINKS.get(step, ())


def report_url(workspace: str, report: str) -> str:
    """Return the address of a report (``validation`` or ``evaluation``) of a workspace, as this Airflow serves it."""
    return f"{base_url()}{PREFIX}/workspaces/{quote(workspace)}/reports/{report}/index.html"


def _has(folder: Path, report: str) -> bool:
    return (folder / "reports" / report / "index.html").exists()


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
