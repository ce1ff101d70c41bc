from __future__ import annotations

import sys
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from airflow.sdk import BaseNotifier

from audioml.errors import ParamsError
from audioml.orchestration.airflow.alerts import approval_callbacks, deadline_alerts, failure_callbacks
from audioml.params import Params, parse_params

SENT: list[tuple[str, Any]] = []


class Shout(BaseNotifier):  # type: ignore[misc]
    """A notifier of the user's own, without the asynchronous way."""

    template_fields = ("text",)

    def __init__(self, text: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.text = text

    def notify(self, context: Any) -> None:
        SENT.append((self.text, context["task"]))


@pytest.fixture
def make_params(minimal_params: dict[str, Any]) -> Any:
    def make(*notify: dict[str, Any], **airflow: Any) -> Params:
        return parse_params({**minimal_params, "airflow": {"notify": list(notify), **airflow}})

    return make


@pytest.fixture
def shout(monkeypatch: pytest.MonkeyPatch) -> str:
    """The dotted path of a notifier class."""
    module = ModuleType("shouting")
    monkeypatch.setattr(module, "Shout", Shout, raising=False)
    monkeypatch.setitem(sys.modules, "shouting", module)
    SENT.clear()
    return "shouting.Shout"


def test_each_message_has_a_notifier_of_its_own(make_params: Any, shout: str) -> None:
    (callback,) = failure_callbacks(make_params({"name": shout, "text": "{{ task }} failed"}))
    callback({"task": "one"})
    callback({"task": "two", "exception": RuntimeError("no disk")})
    assert SENT == [("one failed", "one"), ("two failed", "two")]


def test_a_message_that_cannot_be_sent_harms_nothing_else(
    make_params: Any, shout: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from audioml.errors import ServiceError
    from audioml.orchestration.airflow import alerts

    (callback,) = failure_callbacks(make_params({"name": shout, "text": "failed"}))

    def broken(**_: Any) -> Any:
        def send(_: Any) -> None:
            raise ServiceError("the mail server does not answer")

        return send

    monkeypatch.setattr(alerts, "load_notifier", lambda _: broken)
    callback({"task": "one"})
    assert "the mail server does not answer" in caplog.text


def test_who_is_told_of_what(make_params: Any) -> None:
    params = make_params(
        {"name": "webhook", "url": "https://a.example", "on": ["failure"]},
        {"name": "smtp", "to": "b@example.org", "on": ["deadline", "approval"]},
        deadline_h=1.5,
    )
    (failure,) = failure_callbacks(params)
    assert failure.options == {"url": "https://a.example", "workspace": "digits"}
    (approval,) = approval_callbacks(params)
    assert approval.options == {"to": "b@example.org", "workspace": "digits"}
    (deadline,) = deadline_alerts(params)
    assert deadline.interval == timedelta(hours=1.5)
    assert deadline.callback.serialize() == {
        "path": "audioml.orchestration.airflow.mail.MailNotifier",
        "kwargs": approval.options,
    }


def test_no_deadline_no_alert(make_params: Any) -> None:
    params = make_params({"name": "webhook", "url": "https://a.example"})
    assert deadline_alerts(params) == []


@pytest.mark.parametrize(
    ("notify", "message"),
    [
        ({"name": "webhok", "url": "x"}, r"'airflow\.notify\.0\.name' is 'webhok'.*Did you mean 'webhook'\?"),
        ({"name": "no.such.Thing"}, r"'no\.such\.Thing', which can't be imported"),
        ({"name": "pathlib.Path"}, "no class of notifiers"),
        (
            {"name": "webhook", "ulr": "x"},
            r"'airflow\.notify\.0\.ulr': webhook does not take it\. Did you mean 'url'\?",
        ),
        ({"name": "webhook", "workspace": "x"}, "It takes: url, headers, timeout_s"),
        ({"name": "smtp", "too": "x"}, r"Did you mean 'to'\? It takes: to, from_email, subject"),
        ({"name": "webhook"}, r"'airflow\.notify\.0': webhook can't be made of its keys.*'url'"),
    ],
)
def test_a_wrong_notifier_names_the_key(make_params: Any, notify: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        failure_callbacks(make_params(notify))


def test_a_notifier_that_can_not_tell_of_deadlines(make_params: Any, shout: str) -> None:
    params = make_params({"name": shout, "text": "late"}, deadline_h=1)
    with pytest.raises(ParamsError, match=r"async_notify.*'on' to \[failure\]"):
        deadline_alerts(params)
