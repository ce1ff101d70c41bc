"""The process of the MLflow server: `python -m audioml.registry.server_process FD [--detached]`.

It does what `mlflow db upgrade` and `mlflow server --workers 1` do, in one process instead of three: 4 s to the
first answer instead of 12 s on two cores, and one pid to stop. It runs in the folder of its database, gets
a socket that listens already, and writes to the log.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from types import FrameType

import psutil

from audioml.ports import LOCAL, port_of
from audioml.registry.server import DATABASE, USERS_LOCK, Server, write_record
from audioml.store.locks import try_exclusive

ARTIFACTS = "artifacts"
WATCH_INTERVAL_S = 0.5
SHUTDOWN_TIMEOUT_S = 5
"""Seconds for requests in progress when the server is stopped."""


def main(arguments: list[str]) -> None:
    """Serve on the listening socket with this descriptor until stopped, or until the last user is gone."""
    listener = socket.socket(fileno=int(arguments[0]))
    detached = "--detached" in arguments
    folder = Path.cwd()
    me = psutil.Process()
    port = port_of(listener)
    write_record(folder, Server(me.pid, me.create_time(), port, f"http://{LOCAL}:{port}", detached))
    # Ctrl-C reaches the whole process group, but a run's last words must still reach the server.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if not detached:
        threading.Thread(target=_end_without_users, args=(folder,), daemon=True).start()
    _migrate(folder)
    _serve(listener, folder)


def _end_without_users(folder: Path) -> None:
    """Wait for the moment in which no process uses the server; then end it, keeping new users out until it has."""
    descriptor = os.open(folder / USERS_LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    while not try_exclusive(descriptor):
        time.sleep(WATCH_INTERVAL_S)
    # The lock stays with the process, so that new users wait until it has ended.
    os.kill(os.getpid(), signal.SIGTERM)


def _migrate(folder: Path) -> None:
    """Create or upgrade the database. A new one gets its name when it is whole: a killed start leaves none."""
    import mlflow.db

    if (folder / DATABASE).exists():
        mlflow.db.upgrade.callback(f"sqlite:///{DATABASE}")
        return
    fresh = f"{DATABASE}.new"
    (folder / fresh).unlink(missing_ok=True)
    mlflow.db.upgrade.callback(f"sqlite:///{fresh}")
    (folder / fresh).replace(folder / DATABASE)


def _serve(listener: socket.socket, folder: Path) -> None:
    from mlflow.server import constants

    settings = {
        constants.BACKEND_STORE_URI_ENV_VAR: f"sqlite:///{DATABASE}",
        constants.REGISTRY_STORE_URI_ENV_VAR: f"sqlite:///{DATABASE}",
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: (folder / ARTIFACTS).as_uri(),
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
    }
    os.environ.update(settings)
    import uvicorn
    from mlflow.server.fastapi_app import app

    class Quiet(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if sig != signal.SIGINT:
                super().handle_exit(sig, frame)

    config = uvicorn.Config(app, access_log=False, timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S)
    Quiet(config).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1:])
