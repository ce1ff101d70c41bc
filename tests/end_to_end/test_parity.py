"""One definition, two runners, one cache: real DVC and the real Airflow scheduler on the same workspace."""

import json
import shutil
from pathlib import Path

import pytest

from audioml.orchestration.airflow_client import AirflowClient
from audioml.pipeline.graph import STEPS

from .conftest import read_metrics, run_command

pytestmark = pytest.mark.slow


def run_dag(workspace: Path) -> dict[str, str]:
    """Run the workspace's DAG to its end and return the state of each Airflow task (mapped ones joined)."""
    stack = json.loads(run_command("audioml", "up", "--json", cwd=workspace).stdout)
    client = AirflowClient(stack["services"]["airflow-api-server"]["url"], **stack["login"])
    dag_id = workspace.name
    with client:
        client.wait_for_dag(dag_id)
        client.unpause(dag_id)
        run_id = client.trigger(dag_id)
        state = client.wait_for_run(dag_id, run_id, timeout_s=600)
        states = {task.task_id: str(task.state) for task in client.task_instances(dag_id, run_id)}
    assert state == "success", states
    return states


def forget_all_runs(workspace: Path) -> None:
    """Remove all that steps made, kept or recorded; params and servers stay."""
    for path in (*(output.path for step in STEPS for output in step.outputs), "dvc.lock"):
        if (workspace / path).is_dir():
            shutil.rmtree(workspace / path)
        else:
            (workspace / path).unlink()
    shutil.rmtree(workspace / ".dvc" / "cache")
    for name in ("featurize", "ingest", "plans", "started", "training"):
        shutil.rmtree(workspace / ".audioml" / name)


@pytest.fixture(autouse=True)
def stop_stack(workspace):
    yield
    run_command("audioml", "down", cwd=workspace)


def test_either_runner_finds_done_what_the_other_did_and_makes_the_same(workspace):
    run_command("dvc", "repro", cwd=workspace)
    lock, by_dvc = (workspace / "dvc.lock").read_bytes(), read_metrics(workspace)
    assert set(run_dag(workspace).values()) == {"skipped"}
    assert (workspace / "dvc.lock").read_bytes() == lock

    forget_all_runs(workspace)
    states = run_dag(workspace)
    # Nothing failed, and the first version was champion at once.
    nothing_to_do = {"ingest.retry", "featurize.retry", "promote.compare", "promote.promote"}
    assert {name for name, state in states.items() if state != "success"} == nothing_to_do
    groups = {step.name for step in STEPS} | {"begin", "end", "promote"}
    assert {name.partition(".")[0] for name in states} == groups
    assert read_metrics(workspace) == by_dvc
    assert "up to date" in run_command("dvc", "status", cwd=workspace).stdout
    repro = run_command("dvc", "repro", cwd=workspace)
    assert "Running stage" not in repro.stdout
    assert "up to date" in repro.stdout + repro.stderr
