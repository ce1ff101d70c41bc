"""Airflow as the runner: reading DAGs, the whole chain beside `dvc repro`, a run with nothing to do, many mapped items.

    python benchmarks/bench_airflow.py [parsing] [chain] [items]

The embedded stack (SQLite, LocalExecutor) and real recordings, looked for in AUDIOML_TEST_DATA (default: ../shared/data
beside the repository).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml
from _corpus import FSDD, FSDD_PATTERN, make_workspace
from _measure import run_child, time_s

from audioml.orchestration.airflow_client import AirflowClient, AirflowTask

WORKSPACES = 20
PARSING_LIMIT_S = 3.0
OVERHEAD_LIMIT_S, OVERHEAD_SHARE = 60.0, 0.1
UNCHANGED_LIMIT_S = 20.0
ITEMS = 500
ITEM_S = 3.4
"""Seconds of audio of one packed shard: FSDD makes somewhat more than 500."""
RUN_TIMEOUT_S = 4 * 3600.0
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "NO_COLOR": "1"}
ENVIRONMENT.pop("MLFLOW_TRACKING_URI", None)

PARSE = """
import json, os, sys, time
os.environ |= {"AUDIOML_WORKSPACES": sys.argv[1], "AIRFLOW_HOME": sys.argv[2], "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization
from audioml.orchestration.airflow.bundle import WorkspacesBundle
bundle = WorkspacesBundle(name="audioml")
bundle.base_dir = Path(sys.argv[3])
times = {}

def since(start):
    return time.perf_counter() - start[0], time.process_time() - start[1]

for name in ("first time", "again"):
    start = time.perf_counter(), time.process_time()
    bundle.refresh()
    bag = DagBag(str(bundle.path), bundle_path=bundle.path, bundle_name="audioml")
    times[name] = since(start)
    [DagSerialization.to_dict(dag) for dag in bag.dags.values()]
    times[name + ", with serialization"] = since(start)
assert not bag.import_errors, bag.import_errors
print(json.dumps({"dags": len(bag.dags), "times": times}))
"""


def bench_parsing() -> None:
    """Read one DAG file that serves 20 workspaces, as the DAG processor does."""
    with tempfile.TemporaryDirectory() as root:
        folders = [make_workspace(Path(root) / f"w{i:02d}", name=f"w{i:02d}").workspace for i in range(WORKSPACES)]
        bundles = Path(root) / "bundles"
        found = run_child(PARSE, json.dumps([str(f) for f in folders]), f"{root}/airflow", str(bundles))
    title = f"reading {WORKSPACES} workspaces, {found['dags']} DAGs"
    print(f"| {title} | s (at most {PARSING_LIMIT_S:g}) | of CPU |\n|---|---|---|")
    for name, (wall_s, cpu_s) in found["times"].items():
        print(f"| {name} | {wall_s:.2f} | {cpu_s:.2f} |")


def run_quietly(*command: str, cwd: Path) -> str:
    """Run a command and return its standard output; its failure ends the benchmark with all that it printed."""
    done = subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def make_digits(folder: Path) -> Path:
    """Make the workspace `digits` on FSDD with its official split."""
    run_quietly(
        *("audioml", "init", str(folder), "--name", "digits", "--data", str(FSDD), "--layout", "filename"),
        *("--pattern", FSDD_PATTERN, "--test", "index < 5"),
        cwd=folder.parent,
    )
    return folder


@contextmanager
def running_stack(workspace: Path) -> Iterator[AirflowClient]:
    """Run the embedded stack of a workspace and give a client of its Airflow."""
    stack = json.loads(run_quietly("audioml", "up", "--json", cwd=workspace))
    try:
        with AirflowClient(stack["services"]["airflow-api-server"]["url"], **stack["login"]) as client:
            yield client
    finally:
        run_quietly("audioml", "down", cwd=workspace)


def run_dag(client: AirflowClient, dag_id: str) -> tuple[float, list[AirflowTask]]:
    """Trigger a DAG and return the seconds until its run succeeded, and the run's Airflow tasks."""
    client.wait_for_dag(dag_id)
    client.unpause(dag_id)
    start = time.perf_counter()
    run_id = client.trigger(dag_id)
    state = client.wait_for_run(dag_id, run_id, RUN_TIMEOUT_S)
    seconds = time.perf_counter() - start
    tasks = client.task_instances(dag_id, run_id)
    if state != "success":
        raise SystemExit(f"{run_id} of {dag_id} ended as {state}: {tasks}")
    return seconds, tasks


def training_s(workspace: Path) -> float:
    """Return the seconds that the epochs of a workspace's training took."""
    history = json.loads((workspace / "models" / "run.json").read_text())["history"]
    return float(sum(epoch["seconds"] for epoch in history))


def accuracy(workspace: Path) -> float:
    """Return the accuracy on the test set."""
    return float(json.loads((workspace / "reports" / "metrics.json").read_text())["test"]["accuracy"])


def bench_chain() -> None:
    """Run the whole chain on FSDD by `dvc repro`, then in an equal workspace by the DAG, then the DAG once more."""
    with tempfile.TemporaryDirectory() as root:
        by_dvc, by_airflow = (make_digits(Path(root) / name) for name in ("dvc", "airflow"))
        dvc_s = time_s(lambda: run_quietly("dvc", "repro", cwd=by_dvc))
        with running_stack(by_airflow) as client:
            airflow_s, _ = run_dag(client, "digits")
            again_s, tasks = run_dag(client, "digits")
        ran = [t.task_id for t in tasks if t.state == "success" and t.part in ("run", "work", "retry", "collect")]
        print("| the whole chain on FSDD | s | of which epochs | test accuracy |\n|---|---|---|---|")
        for name, seconds, folder in (("dvc repro", dvc_s, by_dvc), ("Airflow", airflow_s, by_airflow)):
            print(f"| {name} | {seconds:.0f} | {training_s(folder):.0f} | {accuracy(folder):.4f} |")
    limit_s = OVERHEAD_LIMIT_S + OVERHEAD_SHARE * dvc_s
    print(f"| overhead | {airflow_s - dvc_s:.0f} (at most {limit_s:.0f}) | | |")
    print(f"| Airflow, nothing changed | {again_s:.1f} (at most {UNCHANGED_LIMIT_S:g}) | steps run: {len(ran)} | |")


def bench_items() -> None:
    """Make features of FSDD in more than 500 mapped Airflow tasks, and look for lock errors in all logs."""
    with tempfile.TemporaryDirectory() as root:
        workspace = make_digits(Path(root) / "digits")
        params = yaml.safe_load((workspace / "params.yaml").read_text())
        params["ingest"]["shard_s"] = ITEM_S
        params["training"]["max_epochs"] = 1
        (workspace / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        with running_stack(workspace) as client:
            seconds, tasks = run_dag(client, "digits")
        work = [t for t in tasks if t.task_id == "featurize.work"]
        logs = [path for path in (workspace / ".audioml").rglob("*.log") if path.is_file()]
        locked = [str(path) for path in logs if b"database is locked" in path.read_bytes()]
        spent_s = max(t.end_s or 0.0 for t in work) - min(t.start_s or 0.0 for t in work)
    states = ", ".join(f"{n} {state}" for state, n in Counter(t.state for t in work).items())
    retried = sum(t.try_number > 1 for t in tasks)
    print(f"| mapped items (at least {ITEMS}) | {states}; {retried} Airflow tasks tried again |\n|---|---|")
    print(f"| the run | {seconds:.0f} s |")
    print(f"| its mapped items | {spent_s:.0f} s, {spent_s / len(work):.2f} s an item |")
    print(f"| logs that hold 'database is locked' | {len(locked)} of {len(logs)} {locked} |")


BENCHMARKS = {"parsing": bench_parsing, "chain": bench_chain, "items": bench_items}

if __name__ == "__main__":
    for name in sys.argv[1:] or BENCHMARKS:
        BENCHMARKS[name]()
        print()
