"""One definition, two runners, one cache: real DVC and the real Airflow scheduler on the same workspaces."""

import json
from pathlib import Path

import pytest

from audioml.orchestration.airflow_client import AirflowClient
from audioml.pipeline.graph import STEPS

from .conftest import read_metrics, run_command

pytestmark = pytest.mark.slow
"""Each test starts the whole stack of its workspace."""


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


@pytest.fixture(autouse=True)
def stop_stack(workspace):
    yield
    run_command("audioml", "down", cwd=workspace)


def test_after_dvc_a_dag_run_executes_no_step(workspace):
    run_command("dvc", "repro", cwd=workspace)
    lock = (workspace / "dvc.lock").read_bytes()
    assert set(run_dag(workspace).values()) == {"skipped"}
    assert (workspace / "dvc.lock").read_bytes() == lock


def test_after_a_dag_run_dvc_runs_nothing(workspace):
    states = run_dag(workspace)
    assert set(states.values()) == {"success"}
    assert {task_id.partition(".")[0] for task_id in states} == {step.name for step in STEPS}
    assert "up to date" in run_command("dvc", "status", cwd=workspace).stdout
    repro = run_command("dvc", "repro", cwd=workspace)
    assert "Running stage" not in repro.stdout
    assert "up to date" in repro.stdout + repro.stderr


def test_both_runners_make_the_same_metrics(workspace, tmp_path, tones):
    run_dag(workspace)
    other = tmp_path / "by-dvc"
    run_command("audioml", "init", str(other), "--data", str(tones), cwd=tmp_path)
    (other / "params.yaml").write_text((workspace / "params.yaml").read_text())
    run_command("dvc", "repro", cwd=other)
    assert read_metrics(other) == read_metrics(workspace)
