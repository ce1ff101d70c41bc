from __future__ import annotations

import asyncio
import email
import json
import socketserver
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.message import Message
from types import SimpleNamespace
from typing import Any

import pytest

from audioml.orchestration.airflow.mail import MailNotifier

LOG = "http://airflow.example/dags/birds/runs/1/tasks/train.run?try_number=1"


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Message]]:
    """What an SMTP server got, which Airflow's connection `smtp_default` leads to."""
    received: list[Message] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 here")
            while line := self.rfile.readline().decode().strip().upper():
                if line == "DATA":
                    self.say("354 go on")
                    lines = iter(self.rfile.readline, b".\r\n")
                    received.append(email.message_from_bytes(b"".join(lines)))
                self.say("221 bye" if line == "QUIT" else "250 well")

        def say(self, answer: str) -> None:
            self.wfile.write(f"{answer}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        extra = {"disable_ssl": True, "disable_tls": True}
        connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": server.server_address[1], "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
        yield received
        server.shutdown()


def notifier(**options: Any) -> MailNotifier:
    return MailNotifier(workspace="birds", to="team@example.org", from_email="airflow@example.org", **options)


def failed_task() -> dict[str, Any]:
    ti = SimpleNamespace(dag_id="birds", run_id="run-1", task_id="train.run", log_url=LOG)
    return {"ti": ti, "task": object(), "exception": RuntimeError("lötet <b> {{ 1 / 0 }}")}


def text_of(mail: Message) -> tuple[str, str]:
    (part,) = [part for part in mail.walk() if part.get_content_type() == "text/html"]
    body = part.get_payload(decode=True)
    assert isinstance(body, bytes)
    return str(make_header(decode_header(mail["Subject"]))), body.decode()


def test_a_failure_is_mailed(mails: list[Message]) -> None:
    notifier()(failed_task())
    (mail,) = mails
    assert (mail["To"], mail["From"]) == ("team@example.org", "airflow@example.org")
    subject, html = text_of(mail)
    assert subject == "audioml birds: failed (birds, train.run)"
    # Not run as a template, and not as markup.
    assert "<pre>lötet &lt;b&gt; {{ 1 / 0 }}</pre>" in html
    assert f'href="{LOG}"' in html
    assert "run-1" in html


def test_a_missed_deadline_is_mailed_by_the_triggerer(mails: list[Message]) -> None:
    run = {"dag_id": "birds", "dag_run_id": "run-1", "state": "running"}
    context = {"dag_run": run, "deadline": {"id": "1", "deadline_time": datetime(2026, 11, 21, tzinfo=UTC)}}

    async def send() -> None:
        await notifier(context=context)

    asyncio.run(send())
    subject, html = text_of(mails[0])
    assert subject == "audioml birds: deadline missed (birds)"
    assert "should have ended by 2026-11-21 00:00:00" in html


def test_a_subject_of_the_users_own_is_a_template(mails: list[Message]) -> None:
    notifier(subject="{{ ti.task_id }} of {{ ti.dag_id }} broke")(failed_task())
    assert text_of(mails[0])[0] == "train.run of birds broke"
