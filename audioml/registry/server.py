"""The one MLflow server of a workspace: start it, find it, stop it.

It owns the SQLite database in `.audioml/mlflow`; everybody else speaks HTTP with it. A detached server
(`audioml up`) lives until it is stopped. Any other lives as long as a process holds `users.lock` shared,
so that none is left behind when its users are killed. `server.json` says where it listens.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich.console import Console

from audioml.errors import ServiceError
from audioml.ports import LOCAL, listen, port_of
from audioml.processes import RUN_MARK, end_processes, find_process, start_time
from audioml.store.files import read_json, write_json
from audioml.store.locks import hold_lock, try_exclusive

START_TIMEOUT_S = 120.0
"""A first start creates the database; on a loaded machine that is seconds, not minutes."""
STOP_TIMEOUT_S = 10.0
LOG_TAIL_LINES = 20
DATABASE = "mlflow.db"
RECORD, USERS_LOCK, START_LOCK = "server.json", "users.lock", "start.lock"

_children: list[subprocess.Popen[bytes]] = []
"""Servers this process started; kept, because a Popen that is dropped warns of a child still running."""


@dataclass(frozen=True)
class Server:
    """A running MLflow server, as `server.json` describes it."""

    pid: int
    create_time: float
    """Start of the process in seconds since the epoch; tells it from a later process with its pid."""
    port: int
    url: str
    detached: bool
    """True for a server of `audioml up`, which stays when its users are gone."""

    def process(self) -> psutil.Process | None:
        """Return the server's process, or None when it has ended."""
        return find_process(self.pid, self.create_time)


def folder_of(state: Path) -> Path:
    """Return the folder of the database, the artifacts and the record of the server."""
    return state / "mlflow"


def log_of(state: Path) -> Path:
    """Return the path of the server's log."""
    return state / "logs" / "mlflow.log"


def find_server(state: Path) -> Server | None:
    """Return the server of a workspace if its process runs, whether or not it answers yet."""
    try:
        server = Server(**read_json(folder_of(state) / RECORD))
    except (FileNotFoundError, json.JSONDecodeError, TypeError):
        return None
    return server if server.process() else None


def start_server(state: Path, port: int | None = None, *, detached: bool) -> Server:
    """Start the MLflow server of a workspace, or return the one that runs, once it answers.

    Parameters
    ----------
    state
        The workspace's folder for state.
    port
        Where it shall listen on 127.0.0.1; None takes any free port.
    detached
        True: it outlives this process, in a session of its own. False: it ends when no process holds
        `users.lock` any more; use `use_server`, which holds it.

    Raises
    ------
    ServiceError
        When the port is in use, the server dies (with the end of its log), or another command's
        own server has the database.
    """
    folder = folder_of(state)
    with hold_lock(folder / START_LOCK):
        running = find_server(state)
        if running is None:
            running = _launch(state, port, detached)
        elif detached and not running.detached:
            raise ServiceError(
                f"A running command has the MLflow database of this workspace open (its server is process "
                f"{running.pid}). Wait until it has ended, or stop it, and try again."
            )
        elif port not in (None, running.port):
            raise ServiceError(
                f"The MLflow server of this workspace already runs at {running.url}, not at port {port}. "
                "Stop it first with: audioml down"
            )
        _wait_until_healthy(state, running)
    return running


@contextmanager
def use_server(state: Path) -> Iterator[Server]:
    """Yield the workspace's server for the block, starting one if none runs.

    A server that is not detached is stopped by the last of its users. Commands that run at once share it.
    """
    with hold_lock(folder_of(state) / USERS_LOCK, shared=True) as descriptor:
        server = start_server(state, detached=False)
        try:
            yield server
        finally:
            if not server.detached and try_exclusive(descriptor):
                stop_server(server)


def stop_server(server: Server) -> None:
    """End a server: SIGTERM, and SIGKILL if it has not ended after 10 s. An ended one is no error."""
    if process := server.process():
        end_processes([process], [process], STOP_TIMEOUT_S)
    _children[:] = [child for child in _children if child.poll() is None]


def answers(port: int, timeout_s: float) -> bool:
    """Return whether an MLflow server answers on this local port within `timeout_s`."""
    connection = http.client.HTTPConnection(LOCAL, port, timeout=timeout_s)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _launch(state: Path, port: int | None, detached: bool) -> Server:
    log = log_of(state)
    log.parent.mkdir(parents=True, exist_ok=True)
    listener = listen(LOCAL, port, "MLflow")
    try:
        descriptor = listener.fileno()
        command = [sys.executable, "-P", "-m", "audioml.registry.server_process", str(descriptor)]
        with log.open("ab") as output:
            child = subprocess.Popen(
                [*command, "--detached"] if detached else command,
                # Paths relative to this folder need no quoting in SQLAlchemy's URLs.
                cwd=folder_of(state),
                env=environment(),
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=detached,
            )
        _children.append(child)
        number = port_of(listener)
    finally:
        # The child has its own copy: when it dies, the port is free and waiting requests fail at once.
        listener.close()
    server = Server(child.pid, start_time(child.pid), number, f"http://{LOCAL}:{number}", detached)
    write_record(folder_of(state), server)
    return server


def write_record(folder: Path, server: Server) -> None:
    """Write `server.json`. Both starter and server do, with the same content: either may be killed."""
    write_json(folder / RECORD, asdict(server))


def _wait_until_healthy(state: Path, server: Server) -> None:
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status("MLflow server is starting"):
            healthy = answers(server.port, START_TIMEOUT_S)
    else:
        healthy = answers(server.port, START_TIMEOUT_S)
    if healthy:
        return
    log = log_of(state)
    what = "does not answer" if server.process() else "ended while it started"
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_TAIL_LINES:] if log.exists() else []
    stop_server(server)
    raise ServiceError(f"The MLflow server {what}. The end of {log}:\n" + "\n".join(lines))


def environment() -> dict[str, str]:
    """Return the settings of a server: no telemetry, and none of the parts that audioml has no use for.

    Background jobs are eight processes and 350 MB for language-model evaluation. A server
    serves other commands too, so it does not carry the mark of the Airflow run that happened to start it.
    """
    left_out = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", RUN_MARK)
    inherited = {k: v for k, v in os.environ.items() if k not in left_out}
    return inherited | {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_ENABLE_AI_GATEWAY": "false",
    }
