"""`make test-stack`: the main job on the production stack, with workers killed in the middle, on real recordings.

It brings up a stack of its own beside any other (own project, ports, volumes, secrets), makes a workspace from the Free
Spoken Digit Dataset, runs its whole chain through Celery with two workers, stops a worker that computes features, kills
one that does, and the one that trains, and compares what is there in the end with what must be. The stack is taken down
whatever happens.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from audioml.orchestration.airflow_client import FINISHED, AirflowClient, AirflowTask
from audioml.store.files import read_json
from audioml.store.shards import SUFFIX

DOCKER_FOLDER = Path(__file__).resolve().parent
DOCKER = os.environ.get("DOCKER", "docker").split()
COMPOSE = os.environ.get("COMPOSE", "docker compose").split()
PROJECT = "audioml-test"
NAME = "digits"
DAGS = {NAME, *(f"{NAME}.{stage}" for stage in ("ingest", "features", "train", "promote", "monitor"))}
WORKSPACE = f"/workspaces/{NAME}"
FSDD = [
    *("--layout", "filename", "--pattern", r"(?P<label>\d)_(?P<speaker>\w+)_(?P<index>\d+)"),
    *("--test", "index < 5"),
]
"""Options of `audioml init` for the Free Spoken Digit Dataset and its official split."""
ITEM_S, EPOCHS = 150.0, 12
"""Seconds of audio in a work item, and epochs: enough of both to be in the middle of them when a worker is killed."""
START_TIMEOUT_S, RUN_TIMEOUT_S = 600.0, 1800.0
STOP_TIMEOUT_S = 120
"""`stop_grace_period` of a worker in compose.yaml."""
CONCURRENCY = 2
"""Airflow tasks at once in a worker."""
BEGINNING = time.monotonic()


def say(text: str) -> None:
    print(f"[{time.monotonic() - BEGINNING:6.1f} s] {text}", flush=True)


def wait_for(what: str, check: Callable[[], Any], timeout_s: float) -> Any:
    """Return the first true value of a check, or fail."""
    deadline = time.monotonic() + timeout_s
    while not (value := check()):
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(0.5)
    return value


def run(*command: str, ok: bool = True) -> str:
    """Run a program and return its standard output; with `ok`, its failure fails the test."""
    done = subprocess.run(command, capture_output=True, text=True)
    if ok and done.returncode:
        pytest.fail(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


class Stack:
    """The services, by the names that compose.yaml gives them."""

    def __init__(self, folder: Path, recordings: Path) -> None:
        self.env_file = folder / "env"
        run(str(DOCKER_FOLDER / "make-env"), str(self.env_file), str(folder))
        self.workspaces = folder / "workspaces"
        self.settings = self._read() | {
            "COMPOSE_PROJECT_NAME": PROJECT,
            "SOURCES_DIR": str(recordings),
            "AUDIOML_WORKSPACES": WORKSPACE,
            "SERVED_MODEL": f"{NAME}@champion",
            "AUDIOML_TAG": os.environ.get("AUDIOML_TAG", "0.1.0"),
            "WORKER_CONCURRENCY": str(CONCURRENCY),
            "AUDIOML_POOL_CPU": "2",
            **{f"{service}_PORT": str(free_port()) for service in ("AIRFLOW", "MLFLOW", "SERVER")},
        }
        self.env_file.write_text("".join(f"{name}={value}\n" for name, value in self.settings.items()))

    def _read(self) -> dict[str, str]:
        lines = self.env_file.read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))

    def compose(self, *arguments: str, ok: bool = True) -> str:
        options = ("-p", PROJECT, "--env-file", str(self.env_file), "-f", str(DOCKER_FOLDER / "compose.yaml"))
        return run(*COMPOSE, *options, *arguments, ok=ok)

    def audioml(self, *arguments: str) -> str:
        """Run a command in the first worker's container, in the workspace."""
        return self.compose("exec", "-T", "-w", WORKSPACE, "worker", *arguments)

    def url(self, service: str) -> str:
        return f"http://127.0.0.1:{self.settings[f'{service}_PORT']}"

    def airflow(self) -> AirflowClient:
        login = self.settings["AIRFLOW_ADMIN_USER"], self.settings["AIRFLOW_ADMIN_PASSWORD"]
        return AirflowClient(self.url("AIRFLOW"), *login)

    def states(self) -> dict[str, str]:
        """Return `running`, `healthy`, `exited` and so on, by container."""
        names = run(*DOCKER, "ps", "-aq", "--filter", f"label=com.docker.compose.project={PROJECT}").split()
        form = (
            "{{.Name}} {{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}} {{.State.ExitCode}}{{end}}"
        )
        lines = run(*DOCKER, "inspect", "--format", form, *names).splitlines() if names else []
        return dict(line.removeprefix(f"/{PROJECT}").strip("_-").split(" ", 1) for line in lines)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def recordings() -> Path:
    default = DOCKER_FOLDER.parents[1] / "shared" / "data"
    folder = Path(os.environ.get("AUDIOML_TEST_DATA", default)) / "fsdd" / "recordings"
    if not folder.is_dir():
        pytest.skip(f"real recordings are not at {folder}; set AUDIOML_TEST_DATA")
    return folder


@pytest.fixture(scope="module")
def stack(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    made = Stack(tmp_path_factory.mktemp("stack"), recordings)
    try:
        yield made
    finally:
        for service in ("airflow-scheduler", "airflow-api-server", "worker", "server"):
            logs = made.compose("logs", "--no-color", "--tail", "40", service, ok=False)
            (made.env_file.parent / f"{service}.log").write_text(logs)
        say("taking the stack down")
        made.compose("down", "--volumes", "--remove-orphans", "--timeout", "5", ok=False)


def make_workspace(stack: Stack, recordings: Path) -> None:
    command = ("audioml", "init", WORKSPACE, "--data", "/sources", *FSDD)
    stack.compose("run", "--rm", "--no-deps", "-T", "worker", *command)
    say(f"made the workspace {NAME} of {len(list(recordings.iterdir()))} recordings")
    path = stack.workspaces / NAME / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["ingest"]["shard_s"] = ITEM_S
    params["training"] |= {"max_epochs": EPOCHS, "patience": EPOCHS, "accelerator": "cpu"}
    params["airflow"]["retry_delay_s"] = 1.0
    path.write_text(yaml.safe_dump(params, sort_keys=False, allow_unicode=True))


def running(client: AirflowClient, run_id: str, task_id: str) -> list[AirflowTask]:
    return [t for t in client.task_instances(NAME, run_id) if t.task_id == task_id and t.state == "running"]


def worker_of(
    client: AirflowClient, run_id: str, task_id: str, ready: Callable[[], bool] = lambda: True
) -> tuple[str, list[AirflowTask]]:
    """Return the id of a container in which an Airflow task runs, once the condition holds, and what it runs of it."""

    def find() -> list[AirflowTask]:
        return [t for t in running(client, run_id, task_id) if t.hostname] if ready() else []

    tasks = wait_for(f"{task_id} runs", find, RUN_TIMEOUT_S)
    return tasks[0].hostname, [t for t in tasks if t.hostname == tasks[0].hostname]


def stop_worker_of(client: AirflowClient, run_id: str, task_id: str) -> None:
    """Stop the container in which an Airflow task runs, and start it again: what it runs has to be finished first."""
    worker, tasks = worker_of(client, run_id, task_id)
    start = time.monotonic()
    run(*DOCKER, "stop", "--time", str(STOP_TIMEOUT_S), worker)
    say(f"stopped the worker {worker} in the middle of {task_id}: it took {time.monotonic() - start:.0f} s")
    now = {t.map_index: t for t in client.task_instances(NAME, run_id) if t.task_id == task_id}
    for task in (now[t.map_index] for t in tasks):
        assert (task.state, task.try_number, task.hostname) == ("success", 1, worker), task
    run(*DOCKER, "start", worker)
    say(f"it had finished {len(tasks)} of {task_id} before; started it again")


def kill_worker_of(client: AirflowClient, run_id: str, task_id: str, ready: Callable[[], bool]) -> str:
    """Kill the container in which an Airflow task runs, once the condition holds; return the container's id."""
    worker, tasks = worker_of(client, run_id, task_id, ready)
    run(*DOCKER, "kill", worker)
    say(f"killed the worker {worker} in the middle of {task_id} ({tasks[0].label})")
    return worker


def finished_shards(workspace: Path) -> dict[str, int]:
    """Return when the shard of each feature item with a record was written, in nanoseconds, by the item's id."""
    records = (workspace / ".audioml" / "featurize").glob("*.json")
    shards = {path.stem: workspace / "features" / f"{path.stem}{SUFFIX}" for path in records}
    return {key: path.stat().st_mtime_ns for key, path in shards.items()}


def follow(client: AirflowClient, run_id: str) -> None:
    """Wait until the run has ended; say what changes on the way."""
    seen = set()

    def ended() -> bool:
        for task in client.task_instances(NAME, run_id):
            event = task.task_id, task.label, task.try_number, task.state
            if task.state in ("running", "up_for_retry", "failed") and event not in seen:
                seen.add(event)
                say(f"{task.task_id} ({task.label}), try {task.try_number}: {task.state}")
        return client.run_state(NAME, run_id) in FINISHED

    wait_for("the run ends", ended, RUN_TIMEOUT_S)


def test_a_run_with_killed_workers_ends_whole(stack: Stack, recordings: Path) -> None:
    make_workspace(stack, recordings)
    stack.compose("up", "-d", "--scale", "worker=2")
    say("the stack starts")

    def healthy() -> bool:
        states = stack.states()
        bad = {name: state for name, state in states.items() if state not in ("healthy", "exited 0")}
        return {name.rstrip("_-0123456789") for name in bad} == {"server"}

    wait_for("all services healthy", healthy, START_TIMEOUT_S)
    say(f"healthy: {', '.join(sorted(stack.states()))}; the server waits for a model")
    workspace = stack.workspaces / NAME
    with stack.airflow() as client:
        for dag in sorted(DAGS):
            client.wait_for_dag(dag, 120)
        assert not client.import_errors()
        say(f"Airflow has the DAGs {', '.join(sorted(DAGS))}")
        client.unpause(NAME)
        run_id = client.trigger(NAME)
        say(f"triggered {NAME}")

        stop_worker_of(client, run_id, "featurize.work")
        killed = kill_worker_of(client, run_id, "featurize.work", lambda: len(finished_shards(workspace)) >= 2)
        shards_before = finished_shards(workspace)
        run(*DOCKER, "start", killed)
        say(f"started it again; {len(shards_before)} feature items are finished")
        training = workspace / ".audioml" / "training"
        killed = kill_worker_of(client, run_id, "train.run", lambda: any(training.rglob("last.ckpt")))

        follow(client, run_id)
        run(*DOCKER, "start", killed)
        tasks = client.task_instances(NAME, run_id)
        for task in tasks:
            if task.state == "failed":
                say(f"{task.task_id} {task.label}:\n{client.log_tail(NAME, run_id, task)}")
        assert client.run_state(NAME, run_id) == "success"
        check_tries(client, run_id, tasks)

    check_outputs(stack, workspace, shards_before)
    check_registry(stack)
    check_answers(stack, recordings)
    check_nothing_left_to_do(stack)


def check_tries(client: AirflowClient, run_id: str, tasks: list[AirflowTask]) -> None:
    train = next(t for t in tasks if t.task_id == "train.run")
    work = [t for t in tasks if t.task_id == "featurize.work"]
    assert all(t.state == "success" for t in work)
    again = [t for t in work if t.try_number > 1]
    assert 1 <= len(again) <= CONCURRENCY, "only what the killed worker did"
    assert train.try_number > 1
    log = client.log_tail(NAME, run_id, train, lines=10_000)
    assert "resumes after epoch" in log, log
    first = client.log_tail(NAME, run_id, replace(train, try_number=1), lines=10_000)
    assert "epoch" in first, "the log of a killed worker is to be read in Airflow"
    say(f"{len(work)} feature items, {len(again)} of them tried again; training was resumed")


def check_outputs(stack: Stack, workspace: Path, shards_before: dict[str, int]) -> None:
    say(stack.audioml("audioml", "check", "--deep").strip())
    status = stack.audioml("dvc", "status")
    assert "up to date" in status, status
    shards = finished_shards(workspace)
    assert shards_before == {key: shards.get(key) for key in shards_before}, "what was finished is not made again"
    history = read_json(workspace / "models" / "run.json")["history"]
    assert len(history) == EPOCHS
    test = read_json(workspace / "reports" / "metrics.json")["test"]
    say(f"dvc: {status.strip()} Accuracy on {test['n']} test recordings: {test['accuracy']:.3f}")
    assert test["n"] == 300
    assert test["accuracy"] > 0.85
    assert not (workspace / ".audioml" / "lease.json").exists()


def check_registry(stack: Stack) -> None:
    query = "select name, version, current_stage from model_versions"
    rows = stack.compose("exec", "-T", "postgres", "psql", "-U", "audioml", "-d", "mlflow", "-tA", "-c", query)
    assert f"{NAME}|1" in rows, rows
    found = httpx.get(
        f"{stack.url('MLFLOW')}/api/2.0/mlflow/registered-models/alias",
        params={"name": NAME, "alias": "champion"},
        trust_env=False,
    ).json()["model_version"]
    say(f"registered in PostgreSQL: {found['name']} version {found['version']}, champion")
    assert found["version"] == "1"


def check_answers(stack: Stack, recordings: Path) -> None:
    url = stack.url("SERVER")

    def healthy() -> bool:
        try:
            return httpx.get(f"{url}/health", timeout=2, trust_env=False).is_success
        except httpx.TransportError:
            return False

    wait_for("the model server answers", healthy, 120)
    files = [recordings / f"{digit}_{speaker}_0.wav" for digit in range(10) for speaker in ("george", "jackson")]
    answers = {
        f: httpx.post(f"{url}/predict", content=f.read_bytes(), timeout=60, trust_env=False).json() for f in files
    }
    right = [f for f, answer in answers.items() if str(answer["label"]) == f.name[0]]
    say(f"the model server recognises {len(right)} of {len(files)} test recordings")
    assert len(right) >= 0.8 * len(files), answers


def check_nothing_left_to_do(stack: Stack) -> None:
    with stack.airflow() as client:
        start = time.monotonic()
        run_id = client.trigger(NAME)
        assert client.wait_for_run(NAME, run_id, 300) == "success"
        states = {t.task_id: t.state for t in client.task_instances(NAME, run_id)}
        say(f"a second run had nothing to do: {time.monotonic() - start:.0f} s")
        assert {states[f"{step}.{part}"] for step, part in (("train", "run"), ("featurize", "plan"))} == {"skipped"}
