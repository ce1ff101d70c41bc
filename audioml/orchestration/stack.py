"""The embedded stack of a workspace: one MLflow server, and Airflow's parts on SQLite with LocalExecutor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console

from audioml.errors import ServiceError
from audioml.orchestration import airflow_sqlite
from audioml.orchestration.airflow_client import AirflowClient
from audioml.orchestration.airflow_settings import airflow_environment, airflow_home, read_login
from audioml.orchestration.dag_file import DAG_FILE, DAG_FILE_PATH
from audioml.orchestration.services import (
    MARK,
    Service,
    describe_process,
    log_tail,
    marked_processes,
    read_services,
    stop_all,
    stop_services,
    write_services,
)
from audioml.pipeline.context import Context
from audioml.ports import LOCAL, listen, port_of
from audioml.processes import end_marked, end_processes
from audioml.registry.server import Server, find_server, log_of, start_server, stop_server
from audioml.store.files import write_text
from audioml.store.locks import hold_lock

API_SERVER = "airflow-api-server"
AIRFLOW_PARTS = (API_SERVER, "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")
MLFLOW, MODEL_SERVER = "mlflow", "server"
HEALTH_KEYS = {
    "airflow-scheduler": "scheduler",
    "airflow-dag-processor": "dag_processor",
    "airflow-triggerer": "triggerer",
}
"""Names of Airflow's parts in its health report."""
START_TIMEOUT_S = 180.0
"""Starting takes 6 to 12 s on two idle cores; a machine under load takes longer."""
POLL_INTERVAL_S = 0.1

_children: list[subprocess.Popen[bytes]] = []
"""Processes this one started; kept, because a Popen that is dropped warns of a child still running."""


def up(ctx: Context, *, airflow_port: int | None = None, mlflow_port: int | None = None) -> dict[str, Any]:
    """Start what of the stack does not run, wait until it is healthy, and return `status`.

    Parameters
    ----------
    ctx : Context
        The workspace.
    airflow_port, mlflow_port : int, optional
        Where to listen on 127.0.0.1; None takes the port of the last time if it is free, else any free one.

    Raises
    ------
    ServiceError
        When a port is in use, or a part ends while it starts, with the end of its log; what had been started is
        stopped then.
    """
    with hold_lock(ctx.state / "stack.lock"), ExitStack() as undo:
        recorded = read_services(ctx.state)
        if not any(s.runs() for s in recorded.values()):
            stop_all(ctx.state)
            # A part that dies leaves children that no list of the living parts' children has.
            undo.callback(end_marked, MARK, str(ctx.state))
        mlflow = _ensure_mlflow(ctx, mlflow_port, recorded, undo)
        server = _wait_for_record(ctx, mlflow)
        running = _keep_running(ctx, recorded, server, airflow_port)
        missing = [name for name in AIRFLOW_PARTS if name not in running]
        if missing:
            port = _port_for(airflow_port, running.get(API_SERVER) or recorded.get(API_SERVER), missing)
            started = _launch_airflow(ctx, missing, airflow_environment(ctx, port, server.url), port)
            undo.callback(stop_services, started)
            running.update({s.name: s for s in started})
        write_services(ctx.state, [_mlflow_service(ctx, server), *running.values()])
        mlflow.result()
        if missing:
            _wait_until_healthy([running[name] for name in AIRFLOW_PARTS], missing)
        undo.pop_all()
    return status(ctx)


def down(ctx: Context) -> list[str]:
    """Stop every process of the stack, and return the names of the services that ran."""
    with hold_lock(ctx.state / "stack.lock"):
        running = [name for name, s in _services(ctx).items() if s.runs()]
        stop_all(ctx.state)
        server = find_server(ctx.state)
        if server is not None and server.detached:
            stop_server(server)
        _children[:] = [child for child in _children if child.poll() is None]
    return running


def status(ctx: Context) -> dict[str, Any]:
    """Return each service's state, address, process and log, and the login of Airflow, as JSON values."""
    running = {name: s for name, s in _services(ctx).items() if s.runs()}
    services: dict[str, Any] = {}
    for name in (MLFLOW, *AIRFLOW_PARTS, MODEL_SERVER):
        if s := running.get(name):
            services[name] = {"running": True, "url": s.url, "port": s.port, "pid": s.pid, "log": s.log}
        elif name != MODEL_SERVER:
            services[name] = {"running": False, "url": None, "port": None, "pid": None, "log": str(_log(ctx, name))}
    return {"services": services, "login": read_login(ctx.state)}


def client(ctx: Context) -> AirflowClient:
    """Return a client of the workspace's running Airflow.

    Raises
    ------
    ServiceError
        When it does not run.
    """
    server = read_services(ctx.state).get(API_SERVER)
    login = read_login(ctx.state)
    if server is None or server.url is None or login is None or not server.runs():
        raise ServiceError(f"Airflow does not run for {ctx.workspace}. Start it with: audioml up")
    return AirflowClient(server.url, login["username"], login["password"])


def run_airflow(ctx: Context, arguments: Sequence[str]) -> int:
    """Run Airflow's own command line with the settings of the workspace's Airflow, and return its exit status.

    Raises
    ------
    ServiceError
        When Airflow never ran for this workspace.
    """
    server, mlflow = read_services(ctx.state).get(API_SERVER), find_server(ctx.state)
    if server is None or server.port is None:
        raise ServiceError(f"Airflow has not run for {ctx.workspace} yet. Start it with: audioml up")
    environment = {
        **airflow_environment(ctx, server.port, mlflow.url if mlflow else ""),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONNECT_ARGS": f"{airflow_sqlite.__name__}.CONNECT_ARGUMENTS",
    }
    return subprocess.run([sys.executable, "-P", "-m", "airflow", *arguments], env=environment).returncode


def start_model_server(ctx: Context, port: int | None = None) -> str:
    """Start `audioml serve` in the background as a part of the stack, and return its address once it answers.

    One that runs already is stopped first, so that the answers come from the model as it is now.

    Raises
    ------
    ServiceError
        When the port is in use, or the server ends while it starts, with the end of its log.
    """
    with hold_lock(ctx.state / "stack.lock"):
        services = _services(ctx)
        before = services.pop(MODEL_SERVER, None)
        if before is not None:
            stop_services([before])
        listener = listen(LOCAL, port or _free(before.port if before else None), MODEL_SERVER)
        number = port_of(listener)
        listener.close()
        log = ctx.state / "logs" / "server.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, MARK: str(ctx.state), "SPT_NOENV": "1"}
        with log.open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "audioml", "serve", "--port", str(number)],
                cwd=ctx.workspace,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _children.append(child)
        url = f"http://{LOCAL}:{number}"
        service = describe_process(MODEL_SERVER, child.pid, log, port=number, url=url)
        write_services(ctx.state, [*services.values(), service])
        _wait_for_model_server(service)
    return url


def _services(ctx: Context) -> dict[str, Service]:
    """Return the recorded services; MLflow's own record goes before what `stack.json` says of it."""
    services = read_services(ctx.state)
    server = find_server(ctx.state)
    if server is not None and server.detached:
        services[MLFLOW] = _mlflow_service(ctx, server)
    return services


def _mlflow_service(ctx: Context, server: Server) -> Service:
    return Service(MLFLOW, server.pid, server.create_time, server.port, server.url, str(_log(ctx, MLFLOW)))


def _ensure_mlflow(ctx: Context, port: int | None, recorded: dict[str, Service], undo: ExitStack) -> Future[Server]:
    """Start MLflow in a thread, beside Airflow; the future ends when it answers."""
    runs = find_server(ctx.state) is not None
    if not runs:
        before = recorded.get(MLFLOW)
        port = _port(port, before, "MLflow", "--mlflow-port")
        undo.callback(_stop_mlflow, ctx)
    pool = ThreadPoolExecutor(1)
    future = pool.submit(start_server, ctx.state, port, detached=True)
    pool.shutdown(wait=False)
    return future


def _stop_mlflow(ctx: Context) -> None:
    if server := find_server(ctx.state):
        stop_server(server)


def _wait_for_record(ctx: Context, mlflow: Future[Server]) -> Server:
    """Return MLflow's record as soon as its port is known; it need not answer yet."""
    while not mlflow.done():
        server = find_server(ctx.state)
        if server is not None and server.detached:
            return server
        time.sleep(POLL_INTERVAL_S)
    return mlflow.result()


def _keep_running(
    ctx: Context, recorded: dict[str, Service], server: Server, airflow_port: int | None
) -> dict[str, Service]:
    """Return the recorded services that run and may stay; stop what dead ones left behind."""
    api_server = recorded.get(API_SERVER)
    if api_server and api_server.runs() and airflow_port not in (None, api_server.port):
        raise ServiceError(
            f"Airflow of this workspace already runs at {api_server.url}, not at port {airflow_port}. "
            "Stop it first with: audioml down"
        )
    mlflow = recorded.get(MLFLOW)
    if mlflow and mlflow.url != server.url:
        # Airflow's parts and the steps they run know MLflow by its address.
        stop_services(s for name, s in recorded.items() if name != MLFLOW)
    keep = {name: s for name, s in recorded.items() if name != MLFLOW and s.runs()}
    dead = {s.pid for name, s in recorded.items() if name != MLFLOW and name not in keep}
    end_processes([], (p for p in marked_processes(ctx.state) if _session(p) in dead))
    return keep


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except ProcessLookupError:
        return 0


def _port_for(given: int | None, before: Service | None, missing: Iterable[str]) -> int:
    """Return the API server's port: its own if it runs, else one that is free."""
    if API_SERVER not in missing:
        assert before is not None
        assert before.port is not None
        return before.port
    return _port(given, before, "Airflow", "--airflow-port")


def _port(given: int | None, before: Service | None, service: str, option: str) -> int:
    """Return the given port if it is free, else raise; with none given, the one of before or any free one."""
    listener = listen(LOCAL, given or _free(before.port if before else None), service, option)
    with listener:
        return port_of(listener)


def _free(port: int | None) -> int | None:
    """Return the port if it is free, else None."""
    if port is None:
        return None
    try:
        listen(LOCAL, port, "").close()
    except ServiceError:
        return None
    return port


def _log(ctx: Context, name: str) -> Path:
    return log_of(ctx.state) if name == MLFLOW else ctx.state / "logs" / f"{name}.log"


def _launch_airflow(ctx: Context, names: list[str], environment: dict[str, str], port: int) -> list[Service]:
    """Start parts of Airflow; return their records once they are forked, before they answer."""
    if not ctx.path(DAG_FILE_PATH).exists():
        write_text(ctx.path(DAG_FILE_PATH), DAG_FILE)
    home = airflow_home(ctx.state)
    log = _log(ctx, "airflow-start")
    log.parent.mkdir(parents=True, exist_ok=True)
    module = "audioml.orchestration.airflow.processes"
    with log.open("ab") as output:
        launcher = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(home / "migrated"), str(log.parent), *names],
            cwd=home,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
    _children.append(launcher)
    assert launcher.stdout is not None
    pids: dict[str, int] | None = None
    with launcher.stdout:
        for line in launcher.stdout:  # Airflow may print warnings before.
            if line.startswith(b"{"):
                pids = json.loads(line)
                break
    if pids is None:
        launcher.wait()
        raise ServiceError(f"Airflow ended while it started. The end of {log}:\n{log_tail(log)}")
    url = f"http://{LOCAL}:{port}"
    return [
        describe_process(name, pid, _log(ctx, name), port=port, url=url)
        if name == API_SERVER
        else describe_process(name, pid, _log(ctx, name))
        for name, pid in pids.items()
    ]


def _wait_until_healthy(services: list[Service], started: list[str]) -> None:
    """Wait for the API server to answer and for a fresh heartbeat of each part that was started now."""
    api_server = next(s for s in services if s.name == API_SERVER)
    assert api_server.url is not None
    deadline = time.monotonic() + START_TIMEOUT_S
    console = Console(stderr=True)
    with AirflowClient(api_server.url, "", "") as airflow, ExitStack() as display:
        line = display.enter_context(console.status("Airflow is starting")) if console.is_terminal else None
        while True:
            for service in services:
                if not service.runs():
                    raise ServiceError(
                        f"{service.name} ended while it started. The end of {service.log}:\n{service.log_tail()}"
                    )
            health = airflow.health()
            waiting = [API_SERVER] if health is None else _not_healthy(health, services, started)
            if not waiting:
                airflow.warm_up()
                return
            if line:
                line.update(f"Airflow is starting; waiting for {', '.join(waiting)}")
            if time.monotonic() > deadline:
                slow = next(s for s in services if s.name == waiting[0])
                raise ServiceError(
                    f"{slow.name} is not healthy after {START_TIMEOUT_S:.0f} s. "
                    f"The end of {slow.log}:\n{slow.log_tail()}"
                )
            time.sleep(POLL_INTERVAL_S)


def _not_healthy(health: dict[str, Any], services: list[Service], started: list[str]) -> list[str]:
    waiting = []
    for service in services:
        key = HEALTH_KEYS.get(service.name)
        if key is None or service.name not in started:
            continue
        part = health.get(key) or {}
        heartbeat = part.get(f"latest_{key}_heartbeat")
        # A heartbeat of the last run, some seconds ago, still counts as healthy for Airflow.
        fresh = heartbeat is not None and datetime.fromisoformat(heartbeat).timestamp() > service.create_time
        if not fresh or part.get("status") != "healthy":
            waiting.append(service.name)
    return waiting


def _wait_for_model_server(service: Service) -> None:
    """Wait until the model server answers; it listens before its model is loaded."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            if httpx.get(f"{service.url}/health", timeout=1.0, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        if not service.runs() or time.monotonic() > deadline:
            what = "does not answer" if service.runs() else "ended while it started"
            stop_services([service])
            raise ServiceError(f"The model server {what}. The end of {service.log}:\n{service.log_tail()}")
        time.sleep(POLL_INTERVAL_S)
