"""audioml's pages, mounted in Airflow's API server as its plugin does, with Airflow's own login."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from audioml.orchestration.workspaces import name_workspaces

from ..conftest import write_workspace

EVIL = "<script>alert(1)</script>"


class ManyUsers:
    """Airflow's auth manager, as far as the pages ask it."""

    def __init__(self, may_read: set[str]) -> None:
        self.may_read = may_read

    async def get_user_from_token(self, token: str) -> str:
        from jwt import InvalidTokenError

        if token != "good":
            raise InvalidTokenError
        return "ann"

    def is_authorized_dag(self, *, method: str, user: str, details: Any) -> bool:
        assert (method, user) == ("GET", "ann")
        return details.id in self.may_read


@pytest.fixture
def workspaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two good workspaces, birds with reports, and one whose params.yaml is broken."""
    folders = [write_workspace(tmp_path / "birds"), write_workspace(tmp_path / "whales", "whales")]
    folders.append(write_workspace(tmp_path / "broken", more="sed: 1\n"))
    reports = folders[0] / "reports"
    (reports / "evaluation").mkdir(parents=True)
    (reports / "evaluation" / "index.html").write_text(f"<p>figures{EVIL}")
    figures = {"accuracy": 0.91, "low": 0.85, "high": 0.95, "n": 1200, "f1": {"a": 1.0}}
    (reports / "metrics.json").write_text(json.dumps({"test": figures}))
    dataset = {"clips": 12000, "hours": 3.5, "labels": 4}
    (reports / "validation.json").write_text(json.dumps({"success": True, "dataset": dataset}))
    (tmp_path / "secret.txt").write_text("secret")
    (reports / "outside").symlink_to(tmp_path)
    monkeypatch.setenv("AUDIOML_WORKSPACES", name_workspaces(folders))
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://testserver")
    for name in ("MLFLOW_TRACKING_URI", "AUDIOML_MLFLOW_URL", "AUDIOML_SERVER_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def client(workspaces: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """Somebody who is logged in and may see the DAG of birds."""
    from airflow.api_fastapi.core_api import security

    from audioml.orchestration.airflow import pages, plugin

    users = ManyUsers({"birds"})
    monkeypatch.setattr(security, "get_auth_manager", lambda: users)
    monkeypatch.setattr(pages, "get_auth_manager", lambda: users)
    app = FastAPI()
    (mounted,) = plugin.AudiomlPlugin.fastapi_apps
    app.mount(mounted["url_prefix"], mounted["app"])
    return TestClient(app, cookies={"_token": "good"}, follow_redirects=False)


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """MLflow's answers about birds."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            answers = {
                ("/api/2.0/mlflow/registered-models/get", "name"): {
                    "registered_model": {
                        "aliases": [{"alias": "champion", "version": "3"}, {"alias": "challenger", "version": "4"}]
                    }
                },
                ("/api/2.0/mlflow/experiments/get-by-name", "experiment_name"): {"experiment": {"experiment_id": "7"}},
            }
            ((key, values),) = parse_qs(url.query).items()
            found = values == ["birds"]
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(json.dumps(answers[url.path, key] if found else {}).encode())

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield url
        server.shutdown()


def test_the_plugin_is_in_the_navigation_and_loads_no_pages_by_itself() -> None:
    from airflow._shared.plugins_manager import is_valid_plugin

    from audioml.orchestration.airflow.plugin import AudiomlPlugin

    assert is_valid_plugin(AudiomlPlugin)
    (view,) = AudiomlPlugin.external_views
    assert (view["href"], view["url_route"], view["nav_top_level"]) == ("/audioml/", "audioml", True)


def test_a_card_for_each_workspace_that_one_may_see(client: TestClient, workspaces: Path, mlflow: str) -> None:
    page = client.get("/audioml/")
    assert page.status_code == 200
    assert "12,000 clips, 3.50 h, 4 labels" in page.text
    assert "accuracy 0.910 (0.850 to 0.950), 1,200 clips" in page.text
    assert "version 3" in page.text
    for link in (
        f"{mlflow}/#/experiments/7",
        f"{mlflow}/#/models/birds",
        "http://testserver/audioml/workspaces/birds/reports/evaluation/index.html",
        "http://testserver/dags?tags=birds",
    ):
        assert f'href="{link}"' in page.text
    assert "validate has not run" in page.text
    assert "start it with: audioml serve" in page.text
    assert "whales" not in page.text
    # A broken params.yaml has no DAG that one might not see; its error is shown, as Airflow does.
    assert "unknown key &#39;sed&#39;" in page.text
    # Nothing from another host, and no script but its own.
    assert "script-src 'nonce-" in page.headers["content-security-policy"]
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_the_page_does_not_need_mlflow(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("AUDIOML_SERVER_URL", "https://birds.example")
    page = client.get("/audioml/")
    assert 'href="http://127.0.0.1:1/#/experiments"' in page.text
    assert 'href="https://birds.example"' in page.text


def test_reports_are_shown_in_a_sandbox(client: TestClient) -> None:
    page = client.get("/audioml/workspaces/birds/reports/evaluation/index.html")
    assert page.text == f"<p>figures{EVIL}"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("sandbox")
    assert "allow-scripts" not in policy
    assert "allow-same-origin" not in policy
    assert page.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "workspaces/birds/reports/../params.yaml",
        "workspaces/birds/reports/%2e%2e/params.yaml",
        "workspaces/birds/reports/..%2fparams.yaml",
        "workspaces/birds/reports/evaluation/%2e%2e/%2e%2e/%2e%2e/secret.txt",
        "workspaces/birds/reports//etc/passwd",
        "workspaces/birds/reports/%2fetc%2fpasswd",
        "workspaces/birds/reports/outside/secret.txt",
        "workspaces/birds/reports/evaluation/missing.html",
        "workspaces/birds/reports/evaluation/..\\..\\params.yaml",
        "workspaces/%2e%2e/reports/metrics.json",
        "workspaces/no/reports/metrics.json",
        # There, but not for this user.
        "workspaces/whales/reports/metrics.json",
        "workspaces/broken/reports/metrics.json",
    ],
)
def test_only_files_of_reports_of_known_workspaces(client: TestClient, path: str) -> None:
    answer = client.get(f"/audioml/{path}")
    assert answer.status_code == 404
    assert "secret" not in answer.text
    assert "name: birds" not in answer.text


@pytest.mark.parametrize("path", ["", "workspaces/birds/reports/metrics.json"])
@pytest.mark.parametrize("cookies", [{}, {"_token": "bad"}])
def test_who_is_not_logged_in_is_asked_to(client: TestClient, path: str, cookies: dict[str, str]) -> None:
    client.cookies.clear()
    answer = client.get(f"/audioml/{path}", cookies=cookies)
    assert answer.status_code == 307
    login = urlsplit(answer.headers["location"])
    assert (login.netloc, login.path) == ("testserver", "/api/v2/auth/login")
    assert parse_qs(login.query) == {"next": [f"http://testserver/audioml/{path}"]}
    assert not answer.text


def test_reports_are_read_only(client: TestClient) -> None:
    url = "/audioml/workspaces/birds/reports/metrics.json"
    assert {client.request(method, url).status_code for method in ("POST", "PUT", "DELETE", "PATCH")} == {405}


def test_a_report_that_is_big_can_be_asked_for_again(client: TestClient, workspaces: Path) -> None:
    url = "/audioml/workspaces/birds/reports/metrics.json"
    tag = client.get(url).headers["etag"]
    assert client.get(url, headers={"If-None-Match": tag}).status_code == 304
    os.utime(workspaces / "birds" / "reports" / "metrics.json", (1, 1))
    assert client.get(url, headers={"If-None-Match": tag}).status_code == 200
