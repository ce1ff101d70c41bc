from __future__ import annotations

import os
from collections.abc import Callable

import mlflow
import pytest

from audioml.errors import ServiceError
from audioml.pipeline.context import Context
from audioml.ports import listen, port_of
from audioml.registry.server import Server, find_server
from audioml.registry.tracking import tracking


def test_configured_server_is_taken(make_workspace: Callable[[str], Context], configured: str) -> None:
    ctx = make_workspace("configured")
    with tracking(ctx) as uri:
        assert uri == configured
        assert mlflow.get_tracking_uri() == configured
    assert not (ctx.state / "mlflow").exists()


def test_configured_server_that_is_not_there(
    make_workspace: Callable[[str], Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = listen("127.0.0.1", None, "test")
    port = port_of(listener)
    listener.close()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    ctx = make_workspace("absent")
    with pytest.raises(ServiceError, match=f"MLFLOW_TRACKING_URI is http://127.0.0.1:{port}"), tracking(ctx):
        pytest.fail("nothing is there")


def test_own_server_for_the_block(make_workspace: Callable[[str], Context], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    ctx = make_workspace("temporary")
    with tracking(ctx) as uri:
        server = find_server(ctx.state)
        assert server is not None
        assert mlflow.get_tracking_uri() == mlflow.get_registry_uri() == uri == server.url
        mlflow.MlflowClient().create_experiment("kept")
        with tracking(ctx) as inner:
            assert inner == uri
    assert server.process() is None
    assert not {"MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"} & set(os.environ)


def test_error_in_the_block_stops_the_server(make_workspace: Callable[[str], Context]) -> None:
    ctx = make_workspace("failing")
    servers: list[Server | None] = []
    with pytest.raises(ZeroDivisionError):
        _fail_in_block(ctx, servers)
    assert servers[0] is not None
    assert servers[0].process() is None


def _fail_in_block(ctx: Context, servers: list[Server | None]) -> None:
    with tracking(ctx):
        servers.append(find_server(ctx.state))
        raise ZeroDivisionError
