from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from airflow.serialization.serialized_objects import DagSerialization

from audioml.orchestration.airflow import build_dags
from audioml.orchestration.airflow.links import DataDocsLink, MlflowRunLink, RegisteredModelLink, ReportLink


@pytest.fixture(autouse=True)
def addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/team")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000/")
    monkeypatch.delenv("AUDIOML_MLFLOW_URL", raising=False)


def test_airflow_keeps_a_link_for_each_step_that_has_a_page(workspace: Path) -> None:
    dag = build_dags(workspace)["birds"]
    serialized = DagSerialization.to_dict(dag)["dag"]["tasks"]
    links = {task["__var"]["task_id"]: task["__var"].get("_operator_extra_links", {}) for task in serialized}
    assert {name: sorted(found) for name, found in links.items() if found} == {
        "validate.run": ["Data Docs"],
        "validate.record": ["Data Docs"],
        "train.run": ["MLflow run"],
        "train.record": ["MLflow run"],
        "evaluate.run": ["MLflow run", "Report"],
        "evaluate.record": ["MLflow run", "Report"],
        "register.run": ["Registered model"],
        "register.record": ["Registered model"],
        "promote.compare": ["Registered model", "Report"],
        "promote.promote": ["Registered model"],
    }


def test_reports_are_where_this_airflow_serves_them(workspace: Path) -> None:
    for link, report in ((DataDocsLink(), "validation"), (ReportLink(), "evaluation")):
        assert link.address(workspace) == ""
        page = workspace / "reports" / report / "index.html"
        page.parent.mkdir(parents=True)
        page.touch()
        url = f"https://airflow.example/team/audioml/workspaces/birds/reports/{report}/index.html"
        assert link.address(workspace) == url


def test_mlflow_is_where_people_reach_it(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RegisteredModelLink().address(workspace) == "http://mlflow:5000/#/models/birds"
    monkeypatch.setenv("AUDIOML_MLFLOW_URL", "https://mlflow.example")
    assert RegisteredModelLink().address(workspace) == "https://mlflow.example/#/models/birds"
    monkeypatch.setenv("AUDIOML_MLFLOW_URL", "")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert RegisteredModelLink().address(workspace) == ""


def test_the_run_is_that_of_the_newest_training(workspace: Path) -> None:
    assert MlflowRunLink().address(workspace) == ""
    for i, (path, run_id) in enumerate({"models/run.json": "a", ".audioml/training/k/run.json": "b"}.items()):
        (workspace / path).parent.mkdir(parents=True)
        (workspace / path).write_text(json.dumps({"run_id": run_id}))
        os.utime(workspace / path, (i, i))
    # One that has begun, and perhaps failed, after the last finished one.
    assert MlflowRunLink().address(workspace) == "http://mlflow:5000/#/runs/b"
    os.utime(workspace / "models" / "run.json", (2, 2))
    assert MlflowRunLink().address(workspace) == "http://mlflow:5000/#/runs/a"
