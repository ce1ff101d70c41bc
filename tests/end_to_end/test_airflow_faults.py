"""What dies while Airflow works, and who works at the same time: outputs are those of an undisturbed run.

One embedded stack serves two workspaces, and each test makes anew only what it disturbs. Reference is `dvc repro`.
"""

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from audioml.orchestration.airflow_client import AirflowClient
from audioml.orchestration.workspaces import VARIABLE, name_workspaces
from audioml.pipeline.graph import STEPS

from ..conftest import write_tones
from .conftest import change_params, run_command

pytestmark = pytest.mark.slow
TIMEOUT_S = 600.0
KEPT = ("featurize", "plans", "started")
"""What steps keep in the state folder."""


def wait_until(ask: Callable[[], Any], what: str) -> Any:
    """Return the first answer that is true."""
    deadline = time.monotonic() + TIMEOUT_S
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)
    return answer


def outcome(workspace: Path) -> dict[str, bytes]:
    """Return all files of the data and the features."""
    files = [p for folder in ("data", "features") for p in (workspace / folder).rglob("*") if p.is_file()]
    return {str(p.relative_to(workspace)): p.read_bytes() for p in files}


def forget(workspace: Path, *steps: str) -> None:
    """Remove what these steps made, kept and recorded."""
    lock = yaml.safe_load((workspace / "dvc.lock").read_text())
    for step in STEPS:
        if step.name in steps:
            lock["stages"].pop(step.name)
            for output in step.outputs:
                path = workspace / output.path
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    (workspace / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))
    shutil.rmtree(workspace / ".dvc" / "cache" / "runs", ignore_errors=True)
    for name in KEPT:
        shutil.rmtree(workspace / ".audioml" / name, ignore_errors=True)


@dataclass
class Stack:
    """The running stack, two workspaces that it serves, and what undisturbed runs made in them."""

    birds: Path
    bats: Path
    undisturbed: dict[Path, dict[str, bytes]]
    client: AirflowClient

    def up(self) -> dict[str, Any]:
        """Start what does not run."""
        return up(self.birds, self.bats)

    def trigger(self, dag_id: str) -> "Run":
        return Run(self.client, dag_id, self.client.trigger(dag_id))

    def kill_service(self, name: str) -> None:
        """Kill -9 a part of the stack."""
        services = json.loads(run_command("audioml", "status", "--json", cwd=self.birds).stdout)["services"]
        process = psutil.Process(services[name]["pid"])
        process.kill()
        wait_until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, f"{name} to die")


@dataclass
class Run:
    """A run of a DAG."""

    client: AirflowClient
    dag_id: str
    run_id: str

    def wait_for(self, task_id: str, state: str = "running") -> None:
        """Wait until an Airflow task, or one of the mapped ones of this name, is in a state."""
        wait_until(lambda: state in self.states(task_id), f"{task_id} of {self.dag_id} to be {state}")

    def states(self, task_id: str) -> list[str | None]:
        return [task.state for task in self.tasks() if task.task_id == task_id]

    def tasks(self) -> list[Any]:
        return self.client.task_instances(self.dag_id, self.run_id)

    def end(self) -> None:
        """Wait until the run has ended well."""
        state = self.client.wait_for_run(self.dag_id, self.run_id, TIMEOUT_S)
        assert state == "success", [(t.task_id, t.map_index, t.state, t.try_number) for t in self.tasks()]

    def worked(self) -> tuple[float, float]:
        """Return when the run had the workspace, from the end of `begin` to the end of `end`."""
        ended = {task.task_id: task.end_s for task in self.tasks()}
        return ended["begin"], ended["end"]


def up(workspace: Path, other: Path) -> dict[str, Any]:
    environment = {VARIABLE: name_workspaces([other])}
    return json.loads(run_command("audioml", "up", "--json", cwd=workspace, environment=environment).stdout)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    root = tmp_path_factory.mktemp("stack")
    tones = write_tones(root / "tones", clips_per_label=10)
    birds, bats = root / "birds", root / "bats"
    run_command("audioml", "init", str(birds), "--data", str(tones), cwd=root)
    change_params(birds, "ingest", shard_s=4.0)
    change_params(birds, "airflow", retry_delay_s=0.5)
    run_command("dvc", "repro", "split", "featurize", cwd=birds)
    shutil.copytree(birds, bats, symlinks=True)
    change_params(bats, "features", n_mels=32)
    change_params(bats, "airflow", retries=0, max_failed_share=0.5)
    params = bats / "params.yaml"
    params.write_text(yaml.safe_dump({**yaml.safe_load(params.read_text()), "name": "bats"}, sort_keys=False))
    run_command("dvc", "repro", "featurize", cwd=bats)
    undisturbed = {workspace: outcome(workspace) for workspace in (birds, bats)}
    assert all(sum(name.endswith(".arrow") for name in found) >= 4 for found in undisturbed.values())
    try:
        running = up(birds, bats)
        with AirflowClient(running["services"]["airflow-api-server"]["url"], **running["login"]) as client:
            for dag_id in ("birds.features", "bats.features", "birds.train", "bats.train"):
                client.wait_for_dag(dag_id, TIMEOUT_S)
            # Only what a test triggers runs.
            client.pause("birds.train")
            client.pause("bats.train")
            yield Stack(birds, bats, undisturbed, client)
    finally:
        run_command("audioml", "down", cwd=birds)


def test_a_killed_scheduler(stack):
    forget(stack.birds, "featurize")
    run = stack.trigger("birds.features")
    run.wait_for("featurize.work")
    stack.kill_service("airflow-scheduler")
    stack.up()
    run.end()
    assert outcome(stack.birds) == stack.undisturbed[stack.birds]


def test_a_killed_api_server(stack):
    forget(stack.birds, "split", "featurize")
    run = stack.trigger("birds.features")
    run.wait_for("featurize.plan")
    stack.kill_service("airflow-api-server")
    stack.up()
    run.end()
    assert outcome(stack.birds) == stack.undisturbed[stack.birds]


def children(workspace: Path, *arguments: str) -> list[psutil.Process]:
    """Return the processes of `audioml` in a workspace that have these arguments."""
    found = []
    for process in psutil.process_iter(["cwd", "cmdline"], ad_value=""):
        line = process.info["cmdline"]
        if process.info["cwd"] == str(workspace) and "audioml" in line and set(arguments) <= set(line):
            found.append(process)
    return found


def test_a_killed_worker(stack):
    forget(stack.birds, "featurize")
    run = stack.trigger("birds.features")
    (child,) = wait_until(lambda: children(stack.birds, "featurize", "--item")[:1], "an item")
    child.parent().kill()
    # The child ends with the Airflow task's own process.
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the child to die")
    run.end()
    assert max(task.try_number for task in run.tasks() if task.task_id == "featurize.work") == 2
    assert outcome(stack.birds) == stack.undisturbed[stack.birds]


def wait_for_training(workspace: Path) -> psutil.Process:
    """Wait until a training has written a checkpoint, and return its process."""

    def written() -> list[int]:
        return [path.stat().st_mtime_ns for path in workspace.glob(".audioml/training/*/last.ckpt")]

    (fit,) = wait_until(lambda: children(workspace, "run", "train")[:1], "the training")
    before = written()
    wait_until(lambda: written() > before, "a checkpoint")
    return fit


def test_a_worker_and_the_scheduler_killed_in_training(stack):
    # A fit that is taken up is bit for bit the undisturbed one.
    change_params(stack.birds, "training", max_epochs=60, patience=60, accelerator="cpu")
    still = stack.birds.parent / "still"
    shutil.copytree(stack.birds, still, symlinks=True)
    run_command("dvc", "repro", "train", cwd=still)
    stack.client.unpause("birds.train")
    run = stack.trigger("birds.train")
    fit = wait_for_training(stack.birds)
    fit.parent().kill()
    _, alive = psutil.wait_procs([fit], timeout=TIMEOUT_S)
    assert not alive
    wait_for_training(stack.birds)
    stack.kill_service("airflow-scheduler")
    stack.up()
    run.end()
    stack.client.pause("birds.train")
    assert max(task.try_number for task in run.tasks() if task.task_id == "train.run") >= 2
    assert (stack.birds / "models/model.onnx").read_bytes() == (still / "models/model.onnx").read_bytes()


def test_an_item_that_fails_is_tried_again_alone(stack):
    forget(stack.bats, "featurize")
    run = stack.trigger("bats.features")
    (victim,) = wait_until(lambda: children(stack.bats, "featurize", "--item")[:1], "an item")
    victim.send_signal(signal.SIGKILL)
    run.end()
    work, retry = ([t for t in run.tasks() if t.task_id == f"featurize.{part}"] for part in ("work", "retry"))
    (failed,) = [task for task in work if task.state == "failed"]
    assert [(task.label, task.state) for task in retry] == [(failed.label, "success")]
    assert outcome(stack.bats) == stack.undisturbed[stack.bats]


def test_two_workspaces_run_at_once(stack):
    for workspace in (stack.birds, stack.bats):
        forget(workspace, "split", "featurize")
    runs = [stack.trigger("birds.features"), stack.trigger("bats.features")]
    for run in runs:
        run.end()
    (start, stop), (other_start, other_stop) = (run.worked() for run in runs)
    assert max(start, other_start) < min(stop, other_stop)
    for workspace in (stack.birds, stack.bats):
        assert outcome(workspace) == stack.undisturbed[workspace]


def test_two_runs_of_one_workspace_queue(stack):
    # Two DAGs, as Airflow itself runs one DAG of ours once at a time.
    forget(stack.birds, "featurize")
    first = stack.trigger("birds.features")
    first.wait_for("begin", "success")
    second = stack.trigger("birds.ingest")
    second.wait_for("begin", "up_for_reschedule")
    assert first.states("end") == [None]
    for run in (first, second):
        run.end()
    (_, stop), (start, _) = first.worked(), second.worked()
    assert stop <= start
    assert outcome(stack.birds) == stack.undisturbed[stack.birds]
