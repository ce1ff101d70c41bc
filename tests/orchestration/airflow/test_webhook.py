from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from audioml.errors import ServiceError
from audioml.orchestration.airflow.webhook import WebhookNotifier

RUN = "manual__2026-11-21T18:00:00+00:00"
LOG = "http://airflow.example/dags/birds.train/runs/1/tasks/train.run?try_number=1"


class Hook:
    """A server that keeps what it is sent."""

    def __init__(self) -> None:
        self.received: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.status = 200
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                hook.received.append((self.path, dict(self.headers), body))
                self.send_response(hook.status)
                self.end_headers()
                self.wfile.write(b"what it says")

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks/s3cret"


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    hook = Hook()
    threading.Thread(target=hook.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield hook
    hook.server.shutdown()
    hook.server.server_close()


def failed_task() -> dict[str, Any]:
    ti = SimpleNamespace(dag_id="birds.train", run_id=RUN, task_id="train.run", log_url=LOG)
    return {"ti": ti, "task": object(), "exception": RuntimeError("audioml run train: no clips {{ x }}")}


def missed_deadline() -> dict[str, Any]:
    run = {"dag_id": "birds.train", "dag_run_id": RUN, "state": "running"}
    return {"dag_run": run, "deadline": {"id": "1", "deadline_time": datetime(2026, 11, 21, 19, tzinfo=UTC)}}


def test_a_failure_is_posted_with_the_error_and_the_log(hook: Hook) -> None:
    WebhookNotifier(hook.url, workspace="birds")(failed_task())
    ((path, _, body),) = hook.received
    assert path == "/hooks/s3cret"
    text = body.pop("text")
    assert body == {
        "workspace": "birds",
        "dag": "birds.train",
        "run": RUN,
        "task": "train.run",
        "state": "failed",
        "error": "audioml run train: no clips {{ x }}",
        "url": LOG,
    }
    assert text.splitlines()[1:] == ["audioml run train: no clips {{ x }}", LOG]


def test_a_missed_deadline_is_posted_by_the_triggerer(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example/team/")

    async def send() -> None:
        await WebhookNotifier(hook.url, workspace="birds", context=missed_deadline())

    asyncio.run(send())
    ((_, _, body),) = hook.received
    assert (body["state"], body["task"]) == ("deadline missed", None)
    assert "2026-11-21 19:00:00" in body["error"]
    assert body["url"] == "https://airflow.example/team/dags/birds.train/runs/manual__2026-11-21T18%3A00%3A00%2B00%3A00"


def test_a_question_leads_to_its_form(hook: Hook) -> None:
    context = {**failed_task(), "exception": None, "task": SimpleNamespace(hitl_summary={})}
    WebhookNotifier(hook.url)(context)
    ((_, _, body),) = hook.received
    assert (body["state"], body["error"]) == ("waiting for a decision", None)
    assert body["url"] == "http://airflow.example/dags/birds.train/runs/1/tasks/train.run/required_actions"


def test_secrets_come_from_the_environment_when_they_are_needed(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    notifier = WebhookNotifier("env:HOOK_URL", headers={"Authorization": "env:HOOK_KEY"})
    with pytest.raises(ServiceError, match="set HOOK_KEY in the environment"):
        notifier(failed_task())
    monkeypatch.setenv("HOOK_URL", hook.url)
    monkeypatch.setenv("HOOK_KEY", "Bearer 1")
    notifier(failed_task())
    assert hook.received[0][1]["Authorization"] == "Bearer 1"


def test_errors_do_not_show_the_secret_path(hook: Hook) -> None:
    hook.status = 410
    with pytest.raises(ServiceError, match=r"at 127\.0\.0\.1 answered 410: what it says") as refused:
        WebhookNotifier(hook.url)(failed_task())
    with pytest.raises(ServiceError, match=r"at 127\.0\.0\.1 does not answer") as dead:
        WebhookNotifier("http://127.0.0.1:1/hooks/s3cret")(failed_task())
    assert "s3cret" not in f"{refused.value} {dead.value}"


def test_a_long_error_is_cut(hook: Hook) -> None:
    WebhookNotifier(hook.url)({**failed_task(), "exception": RuntimeError("x" * 5000)})
    assert len(hook.received[0][2]["error"]) == 2004
