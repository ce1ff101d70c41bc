"""What Airflow does each time it reads the DAG file, in a fresh process that is watched: no ML library, no database, no
network, no other process."""

import json
import os
import subprocess
import sys

from audioml.orchestration.workspaces import VARIABLE, name_workspaces

from ..conftest import write_workspace

HEAVY = {
    *("torch", "pytorch_lightning", "librosa", "mlflow", "dvc", "pandas", "great_expectations", "scipy", "sklearn"),
    *("matplotlib", "onnxruntime", "soundfile", "pyarrow", "optuna"),
}
FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "sqlite3.connect", "subprocess.Popen", "os.fork")
"""Audit events of the standard library."""
EVERY_SETTING = """\
airflow:
  owner: ornithology
  tags: [field]
  cron: 0 3 * * *
  timezone: Europe/Berlin
  watch_s: 60
  deadline_h: 2
  promote: approve
  notify:
    - {name: webhook, url: "https://example.org/hook"}
    - {name: smtp, to: team@example.org}
tune:
  space:
    training.learning_rate: {low: 0.001, high: 0.1}
"""
PARSE = """
import json, sys
from pathlib import Path
from airflow.dag_processing.dagbag import DagBag
from airflow.serialization.serialized_objects import DagSerialization

seen = []
sys.addaudithook(lambda event, arguments: seen.append([event, repr(arguments)]) if event in FORBIDDEN else None)
from audioml.orchestration.airflow.bundle import WorkspacesBundle
bundle = WorkspacesBundle(name="audioml")
bundle.base_dir = Path(sys.argv[1])
bundle.initialize()
bag = DagBag(str(bundle.path), bundle_path=bundle.path, bundle_name="audioml")
sizes = {dag_id: len(json.dumps(DagSerialization.to_dict(dag))) for dag_id, dag in bag.dags.items()}
modules = sorted({name.partition(".")[0] for name in sys.modules})
print(json.dumps({"dags": sizes, "errors": bag.import_errors, "seen": seen, "modules": modules}))
"""


def read_dags(folders, tmp_path, before=""):
    """Read the DAGs of workspaces, as the DAG processor does; return what was seen. `before` is code to run first."""
    code = f"FORBIDDEN = {FORBIDDEN}\n{PARSE.replace('bundle.initialize()', f'bundle.initialize(){chr(10)}{before}')}"
    environment = {**os.environ, VARIABLE: name_workspaces(folders)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "bundles")], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_reading_many_workspaces_touches_nothing_but_their_params(tmp_path):
    plain = [write_workspace(tmp_path / f"w{i}", f"w{i}") for i in range(4)]
    found = read_dags([*plain, write_workspace(tmp_path / "birds", "birds", EVERY_SETTING)], tmp_path)
    assert found["errors"] == {}
    assert {dag_id.partition(".")[0] for dag_id in found["dags"]} == {"birds", "w0", "w1", "w2", "w3"}
    assert found["seen"] == []
    assert HEAVY & set(found["modules"]) == set()


def test_the_watch_sees_what_it_must(tmp_path):
    folder = write_workspace(tmp_path / "birds")
    forbidden = (
        "import socket, sqlite3, subprocess\n"
        "sqlite3.connect(':memory:').close()\n"
        "subprocess.run(['true'])\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', 9))\n"
    )
    events = {event for event, _ in read_dags([folder], tmp_path, forbidden)["seen"]}
    assert events >= {"sqlite3.connect", "subprocess.Popen", "socket.connect"}
