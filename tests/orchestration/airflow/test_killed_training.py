"""Airflow kills an Airflow task by SIGKILL to its process: nothing of its training is left, and its GPUs are free."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from audioml.orchestration.lease import Holder
from audioml.processes import RUN_MARK, marked_processes
from audioml.training.devices import lease_devices

from ..._polling import wait_until
from ...pipeline.steps import _train_process
from ...pipeline.steps._train_space import make_workspace

pytestmark = pytest.mark.slow
AIRFLOW_TASK = """
import sys
from audioml.orchestration.airflow import operators

workspace, script = sys.argv[1:]
operators.command = lambda *arguments: [sys.executable, script, workspace]
operators.StepOperator(task_id="run", step="train", workspace=workspace).run_audioml("run", "train")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")
def test_a_killed_training_leaves_no_process_and_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOML_DEVICES", "0,1")
    monkeypatch.setenv("AUDIOML_DEVICE_LOCKS", str(tmp_path / "locks"))
    ctx = make_workspace(tmp_path / "space", accelerator="auto", devices=2, max_epochs=100_000, patience=100_000)
    run = Holder("bands.train", str(tmp_path))
    environment = {**os.environ, "AIRFLOW_CTX_DAG_ID": run.dag_id, "AIRFLOW_CTX_DAG_RUN_ID": run.run_id}
    command = [sys.executable, "-c", AIRFLOW_TASK, str(ctx.workspace), _train_process.__file__]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as task:
        ranks = [ctx.path(f"rank{rank}.jsonl") for rank in (0, 1)]
        wait_until(lambda: task.poll() is not None or all(path.exists() for path in ranks), "both ranks learn")
        assert len(marked_processes(RUN_MARK, run.key)) >= len(ranks)
        task.kill()
    wait_until(lambda: not marked_processes(RUN_MARK, run.key), "all its processes have ended")
    with lease_devices(2, group="next") as lease:
        assert lease.devices == ("0", "1")
