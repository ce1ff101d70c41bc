from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from audioml.errors import ServiceError
from audioml.ports import listen, port_of
from audioml.registry.server import Server, answers, find_server, log_of, start_server, stop_server, use_server
from audioml.store.files import write_json

USER = """
import sys
from pathlib import Path
from audioml.registry.server import use_server
with use_server(Path(sys.argv[1])) as server:
    print(server.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """In a folder whose name needs quoting in URLs."""
    return tmp_path / "wörk space #1%20?" / ".audioml"


@pytest.fixture
def user(state: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the server until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", USER, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_detached_server_is_one_outlives_its_users_and_starts_anew_after_kill(state: Path) -> None:
    server = start_server(state, detached=True)
    try:
        assert start_server(state, detached=True) == server
        with use_server(state) as used:
            assert used == server
        assert answers(server.port, 10)
        assert os.getsid(server.pid) == server.pid
        with pytest.raises(ServiceError, match=f"already runs at {server.url}, not at port 1"):
            start_server(state, 1, detached=True)
        os.kill(server.pid, signal.SIGKILL)
        os.waitpid(server.pid, 0)
        second = start_server(state, server.port, detached=True)
        assert (second.port, second.pid != server.pid) == (server.port, True)
        server = second
    finally:
        stop_server(server)
    assert find_server(state) is None
    assert (state / "mlflow" / "mlflow.db").exists()


@pytest.mark.slow
def test_users_share_a_server_and_the_last_one_stops_it(state: Path, user: subprocess.Popen[str]) -> None:
    assert user.stdout is not None
    pid = int(user.stdout.readline())
    with use_server(state) as server:
        assert server.pid == pid
        user.communicate("")
        assert answers(server.port, 10)
        with pytest.raises(ServiceError, match=f"process {pid}"):
            start_server(state, detached=True)
    assert server.process() is None


@pytest.mark.slow
def test_killed_user_leaves_no_server(state: Path, user: subprocess.Popen[str]) -> None:
    assert user.stdout is not None
    pid = int(user.stdout.readline())
    user.kill()
    while find_server(state):
        pass
    with use_server(state) as fresh:
        assert fresh.pid != pid


def test_browser_on_localhost_is_served_and_others_are_not(server_uri: str) -> None:
    port = int(server_uri.rsplit(":", 1)[1])
    statuses = {}
    for host in (f"localhost:{port}", f"127.0.0.1:{port}", "evil.example.org"):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/", headers={"Host": host})
        statuses[host] = connection.getresponse().status
        connection.close()
    assert list(statuses.values()) == [200, 200, 403]


def test_port_in_use_names_the_port(state: Path) -> None:
    with listen("127.0.0.1", None, "test") as taken:
        port = port_of(taken)
        with pytest.raises(ServiceError, match=f"MLflow: port {port} on 127.0.0.1 is in use"):
            start_server(state, port, detached=False)


def test_death_while_starting_shows_the_log(state: Path) -> None:
    (state / "mlflow").mkdir(parents=True)
    (state / "mlflow" / "mlflow.db").write_text("this is no database, whatever its name says")
    with pytest.raises(ServiceError, match="file is not a database"), use_server(state):
        pytest.fail("a server started on a broken database")
    assert log_of(state).exists()
    assert (state / "mlflow" / "mlflow.db").read_text().startswith("this is no database")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}'])
def test_damaged_record_is_no_server(state: Path, content: str) -> None:
    (state / "mlflow").mkdir(parents=True)
    (state / "mlflow" / "server.json").write_text(content)
    assert find_server(state) is None


def test_pid_of_a_later_process_is_no_server(state: Path) -> None:
    (state / "mlflow").mkdir(parents=True)
    stale = {"pid": os.getpid(), "create_time": 1.0, "port": 5000, "url": "http://127.0.0.1:5000", "detached": True}
    write_json(state / "mlflow" / "server.json", stale)
    assert find_server(state) is None
    stop_server(Server(**stale))
