"""What the page of audioml says of a workspace: its data, its figures, its versions, and where to look on."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx

from audioml.errors import ParamsError
from audioml.orchestration.airflow.links import report_url
from audioml.orchestration.services import read_services
from audioml.params import Params, load_params
from audioml.registry.tracking import URI_VARIABLE, mlflow_url

SERVER_URL_VARIABLE = "AUDIOML_SERVER_URL"
"""Environment variable: address at which people reach the model server, where `audioml serve` is not this machine's."""
TIMEOUT_S = 2.0
"""For MLflow's answer; without one the page has links only."""
STATE = ".audioml"


@dataclass(frozen=True)
class Link:
    """Something to look at."""

    name: str
    url: str
    missing: str = ""
    """Why there is nothing to look at yet, if so."""


@dataclass(frozen=True)
class Overview:
    """One workspace on the page."""

    folder: str
    name: str | None = None
    """None where params.yaml is not valid."""
    summary: str = ""
    problem: str = ""
    facts: dict[str, str] = field(default_factory=dict)
    links: tuple[Link, ...] = ()


def describe_workspaces(folders: Sequence[Path]) -> list[Overview]:
    """Return what there is to say of each workspace; a broken params.yaml is said too."""
    # At once: an MLflow that hangs is waited for once, not once a workspace.
    with ThreadPoolExecutor(max(1, len(folders))) as pool:
        return list(pool.map(_describe, folders))


def _describe(folder: Path) -> Overview:
    try:
        params = load_params(folder)
    except ParamsError as error:
        return Overview(str(folder), problem=str(error))
    model = params.registry.name or params.name
    registry = _ask_mlflow("registered-models/get", {"name": model}).get("registered_model", {})
    experiment = _ask_mlflow("experiments/get-by-name", {"experiment_name": params.name}).get("experiment", {})
    return Overview(
        folder=str(folder),
        name=params.name,
        summary=f"{params.task.name} with {params.model.name} on {params.features.name}",
        facts=_facts(folder, registry),
        links=_links(folder, params, model, registry, experiment),
    )


def _facts(folder: Path, registry: dict[str, Any]) -> dict[str, str]:
    facts = {}
    checks = _read(folder / "reports" / "validation.json")
    if dataset := checks.get("dataset"):
        facts["Dataset"] = f"{dataset['clips']:,} clips, {dataset['hours']:.2f} h, {dataset['labels']} labels"
        facts["Checks"] = "all hold" if checks["success"] else "not all hold"
    if test := _read(folder / "reports" / "metrics.json").get("test"):
        primary, value = next(iter(test.items()))
        facts["Test set"] = f"{primary} {value:.3f} ({test['low']:.3f} to {test['high']:.3f}), {test['n']:,} clips"
    for alias in sorted(registry.get("aliases", []), key=lambda a: str(a["alias"]), reverse=True):
        facts[str(alias["alias"]).capitalize()] = f"version {alias['version']}"
    return facts


def _links(
    folder: Path, params: Params, model: str, registry: dict[str, Any], experiment: dict[str, Any]
) -> tuple[Link, ...]:
    mlflow = mlflow_url()
    experiments = f"{mlflow}/#/experiments"
    if experiment:
        experiments += f"/{experiment['experiment_id']}"
    no_mlflow = "" if mlflow else f"{URI_VARIABLE} is not set"
    server = _server_url(folder)
    return (
        Link("MLflow experiment", experiments, no_mlflow),
        Link(
            "Registered model",
            f"{mlflow}/#/models/{quote(model)}",
            no_mlflow or ("" if registry else "no version is registered"),
        ),
        Link("Data Docs", report_url(params.name, "validation"), _lacks(folder, "validation", "validate")),
        Link("Report", report_url(params.name, "evaluation"), _lacks(folder, "evaluation", "evaluate")),
        Link("Model server", server, "" if server else "it does not run; start it with: audioml serve"),
    )


def _lacks(folder: Path, report: str, step: str) -> str:
    return "" if (folder / "reports" / report / "index.html").exists() else f"{step} has not run"


def _server_url(folder: Path) -> str:
    if url := os.environ.get(SERVER_URL_VARIABLE):
        return url
    server = read_services(folder / STATE).get("server")
    return server.url or "" if server and server.runs() else ""


def _ask_mlflow(method: str, query: dict[str, str]) -> dict[str, Any]:
    """Return MLflow's answer; an empty one if it does not answer, or has no such thing."""
    base = os.environ.get(URI_VARIABLE, "").rstrip("/")
    if not base.startswith(("http://", "https://")):
        return {}
    try:
        response = httpx.get(f"{base}/api/2.0/mlflow/{method}", params=query, timeout=TIMEOUT_S)
        return dict(response.json()) if response.is_success else {}
    except (httpx.TransportError, ValueError):
        return {}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return {}
    return found if isinstance(found, dict) else {}
