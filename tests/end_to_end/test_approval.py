"""People and Airflow: a question before promotion, its answer over REST, and messages of what goes wrong."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from audioml.errors import ServiceError
from audioml.orchestration import stack
from audioml.pipeline.context import Context
from audioml.registry.package import save_package
from audioml.registry.promotion import promote
from audioml.registry.runs import training_run
from audioml.registry.tracking import tracking
from audioml.registry.versions import register_package, resolve

from .conftest import change_params, run_command

pytestmark = pytest.mark.slow
DEADLINE_S = 240.0


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """What a webhook is sent; its address is in the environment."""
    received: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HOOK_URL", f"http://127.0.0.1:{server.server_port}/hook")
        yield received
        server.shutdown()


@pytest.fixture
def workspace(
    tones: Path, tmp_path: Path, tone_model: Any, tone_wav: Any, messages: list[Any], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Context]:
    """A workspace with a running stack, whose source is gone; two versions are registered, the challenger is worse.

    The stack takes the webhook's address from the environment, so that `messages` must be there first.
    """
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(tones, tmp_path / "source")
    run_command("audioml", "init", "tones", "--data", str(tmp_path / "source"), cwd=tmp_path)
    shutil.rmtree(tmp_path / "source")
    folder = tmp_path / "tones"
    notify = [{"name": "webhook", "url": "env:HOOK_URL"}]
    change_params(folder, "airflow", promote="approve", deadline_h=0.001, notify=notify)
    # The versions are made by hand, without data.
    change_params(folder, "registry", gates=[])
    ctx = Context.load(folder)
    package = tmp_path / "package"
    save_package(package, onnx=tone_model[0], description=tone_model[1], example_audio=tone_wav(200.0))
    stack.up(ctx)
    try:
        with tracking(ctx):
            for accuracy in (0.8, 0.7):
                (package / "requirements.txt").write_text(f"# {accuracy}")
                with training_run(ctx) as tracker:
                    register_package(ctx, package, tracker.run_id, {"test_accuracy": accuracy})
        # Where people decide, they decide on the first version too.
        promote(ctx, 1, by="ann", reason="the first one")
        yield ctx
    finally:
        stack.down(ctx)


def wait_for(check: Callable[[], Any]) -> Any:
    """Return what `check` returns once it is true."""
    deadline = time.monotonic() + DEADLINE_S
    while not (found := check()):
        if time.monotonic() > deadline:
            pytest.fail(f"not true after {DEADLINE_S:.0f} s")
        time.sleep(0.25)
    return found


def test_a_person_decides_and_people_are_told(workspace: Context, messages: list[dict[str, Any]]) -> None:
    ctx = workspace

    def told(dag: str, state: str) -> list[dict[str, Any]]:
        return [m for m in messages if (m["dag"], m["state"]) == (dag, state)]

    def champion() -> int:
        with tracking(ctx):
            return resolve(ctx).version

    with stack.client(ctx) as airflow:
        airflow.wait_for_dag("tones.promote")
        failing, asking = airflow.trigger("tones.ingest"), airflow.trigger("tones.promote")
        (question,) = wait_for(lambda: told("tones.promote", "waiting for a decision"))
        assert question["url"].endswith("/tasks/promote.approve/required_actions")
        shown = airflow.question("tones.promote", asking, "promote.approve")
        assert shown["subject"] == "Make version 2 of tones its champion?"
        assert "| test\\_accuracy (decides) | 0.7 | **0.8** |" in shown["body"]
        assert airflow.run_state("tones.promote", asking) == "running"

        # While it waits it is late.
        (late,) = wait_for(lambda: told("tones.promote", "deadline missed"))
        assert (late["run"], late["task"]) == (asking, None)

        assert champion() == 1

        def ended() -> bool:
            # Airflow 3.3.2 loses an answer that comes before its scheduler has seen that the Airflow task waits, and
            # then asks again.
            states = {t.task_id: t.state for t in airflow.task_instances("tones.promote", asking)}
            if states["promote.approve"] == "awaiting_input":
                with suppress(ServiceError):  # answered a moment ago
                    airflow.answer("tones.promote", asking, "promote.approve", "Approve")
            return airflow.run_state("tones.promote", asking) in ("success", "failed")

        wait_for(ended)
        assert airflow.run_state("tones.promote", asking) == "success"
        assert champion() == 2
        listed = json.loads(run_command("audioml", "models", "list", "--json", cwd=ctx.workspace).stdout)
        (record,) = listed[0]["history"]
        assert (record["by"], record["champion_before"], record["forced"]) == ("admin", 1, True)
        assert record["reason"] == f"approved (DAG run {asking} of tones.promote)"

        assert airflow.wait_for_run("tones.ingest", failing, DEADLINE_S) == "failed"
        # Of the cause alone, not of what then had no plan.
        (failure,) = wait_for(lambda: told("tones.ingest", "failed"))
        assert failure["task"] == "ingest.plan"
        assert str(ctx.workspace.parent / "source") in failure["error"]
        assert "/tasks/ingest.plan" in failure["url"]
