"""The embedded stack, with real servers."""

import socket

import httpx
import psutil
import pytest

from audioml.errors import ServiceError
from audioml.orchestration import stack
from audioml.orchestration.services import marked_processes
from audioml.pipeline.context import Context

from .conftest import write_workspace


@pytest.fixture
def ctx(workspace):
    context = Context.load(workspace)
    yield context
    stack.down(context)


def processes_of(context):
    """Every process that has to do with the workspace, zombies aside."""
    found = {p.pid for p in marked_processes(context.state)}
    for process in psutil.process_iter(["cwd", "status"], ad_value=""):
        if process.info["status"] != psutil.STATUS_ZOMBIE and str(context.state) in process.info["cwd"]:
            found.add(process.pid)
    return found


def test_nothing_runs_at_first(ctx):
    found = stack.status(ctx)
    assert [name for name, s in found["services"].items() if s["running"]] == []
    assert set(found["services"]) == {stack.MLFLOW, *stack.AIRFLOW_PARTS}
    assert found["login"] is None
    assert stack.down(ctx) == []
    with pytest.raises(ServiceError, match="audioml up"):
        stack.client(ctx)


@pytest.mark.parametrize("option", ["airflow_port", "mlflow_port"])
def test_a_port_in_use_is_named_and_nothing_is_left_running(ctx, option):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=rf"port {port} .*in use.*--{option.replace('_', '-')}"):
            stack.up(ctx, **{option: port})
    assert processes_of(ctx) == set()


@pytest.mark.slow
def test_up_twice_repairs_and_down_leaves_nothing(ctx):
    first = stack.up(ctx)
    services = first["services"]
    assert all(s["running"] for s in services.values())
    assert first["login"]["username"] == "admin"
    with stack.client(ctx) as airflow:
        airflow.wait_for_dag("birds")
        assert airflow.import_errors() == []
    page = httpx.get(services[stack.MLFLOW]["url"] + "/health", trust_env=False)
    assert page.status_code == httpx.codes.OK

    assert stack.up(ctx) == first
    with pytest.raises(ServiceError, match="already runs"):
        stack.up(ctx, airflow_port=1)

    scheduler = psutil.Process(services["airflow-scheduler"]["pid"])
    scheduler.kill()
    scheduler.wait(timeout=30)
    repaired = stack.up(ctx)["services"]
    assert all(s["running"] for s in repaired.values())
    changed = {name for name, s in repaired.items() if s["pid"] != services[name]["pid"]}
    assert changed == {"airflow-scheduler"}

    assert set(stack.down(ctx)) == set(repaired)
    assert processes_of(ctx) == set()
    assert not any(s["running"] for s in stack.status(ctx)["services"].values())


@pytest.mark.slow
def test_a_part_that_dies_shows_its_log_and_stops_the_rest(ctx, monkeypatch):
    environment = stack.airflow_environment

    def broken(*arguments):
        return environment(*arguments) | {"AIRFLOW__CORE__EXECUTOR": "NoSuchExecutor"}

    monkeypatch.setattr(stack, "airflow_environment", broken)
    with pytest.raises(ServiceError, match="NoSuchExecutor"):
        stack.up(ctx)
    assert processes_of(ctx) == set()


@pytest.mark.slow
def test_bad_params_are_told_by_airflow(tmp_path):
    folder = write_workspace(tmp_path / "birds")
    context = Context.load(folder)
    try:
        (folder / "params.yaml").write_text((folder / "params.yaml").read_text() + "sed: 1\n")
        stack.up(context)
        with stack.client(context) as airflow, pytest.raises(ServiceError, match="unknown key 'sed'"):
            airflow.wait_for_dag("birds")
    finally:
        stack.down(context)
