"""Who is told when an Airflow task fails, a run takes too long, a decision waits or audio drifts: `airflow.notify`."""

from __future__ import annotations

import inspect
import logging
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from typing import Any

from airflow.sdk import BaseNotifier, Context
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from audioml.errors import ParamsError, ServiceError, did_you_mean
from audioml.params import FILE_NAME, NotifierParams, Params

logger = logging.getLogger(__name__)
SHORT_NAMES = {
    "smtp": "audioml.orchestration.airflow.mail.MailNotifier",
    "webhook": "audioml.orchestration.airflow.webhook.WebhookNotifier",
}
"""Notifiers by the name that they have in params.yaml; any other is the dotted path of a class."""
OWN_OPTIONS = frozenset({"context", "workspace"})
"""Options of notifiers that audioml or Airflow sets."""


@dataclass(frozen=True)
class Notify:
    """A callback of Airflow that makes a notifier and lets it send.

    A new one for each message: a notifier renders its templates in place, once.
    """

    path: str
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, context: Context) -> None:
        """Send a message about an Airflow task."""
        try:
            load_notifier(self.path)(**self.options)(context)
        except ServiceError as error:
            # What it tells of must not depend on whether somebody could be told.
            logger.warning("%s", error)


def failure_callbacks(params: Params) -> list[Notify]:
    """Return what a failed Airflow task calls: one for each notifier that is on failures.

    Raises
    ------
    ParamsError
        When a notifier is not known, or does not take its keys.
    """
    return _callbacks(params, "failure")


def approval_callbacks(params: Params) -> list[Notify]:
    """Return what an Airflow task calls that waits for a person: one for each notifier that is on approvals."""
    return _callbacks(params, "approval")


def drift_callbacks(params: Params) -> list[Notify]:
    """Return what tells of an alarm of monitoring: one for each notifier that is on drift."""
    return _callbacks(params, "drift")


def deadline_alerts(params: Params) -> list[DeadlineAlert]:
    """Return the deadline of each DAG run, once for each notifier that is on deadlines; none without `deadline_h`.

    The messages are sent by the triggerer.
    """
    if params.airflow.deadline_h is None:
        return []
    alerts = []
    for i, notify in _checked(params, "deadline"):
        notifier = load_notifier(notify.path)
        if notifier.async_notify is BaseNotifier.async_notify:
            raise ParamsError(
                f"{FILE_NAME}: 'airflow.notify.{i}': {notify.path} has no async_notify, so that it can't tell of "
                "deadlines. Choose another, or set its 'on' to [failure]."
            )
        alerts.append(
            DeadlineAlert(
                reference=DeadlineReference.DAGRUN_QUEUED_AT,
                interval=timedelta(hours=params.airflow.deadline_h),
                callback=AsyncCallback(notifier, kwargs=notify.options),
            )
        )
    return alerts


def load_notifier(path: str) -> Any:
    """Return a notifier class by its dotted path."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def _callbacks(params: Params, event: str) -> list[Notify]:
    return [notify for _, notify in _checked(params, event)]


def _checked(params: Params, event: str) -> list[tuple[int, Notify]]:
    """Return position and callback of each notifier that is on an event."""
    return [(i, _check(params, i, given)) for i, given in enumerate(params.airflow.notify) if event in given.on]


def _check(params: Params, position: int, given: NotifierParams) -> Notify:
    where = f"{FILE_NAME}: 'airflow.notify.{position}"
    path = SHORT_NAMES.get(given.name, given.name)
    try:
        notifier = load_notifier(path)
        known = isinstance(notifier, type) and issubclass(notifier, BaseNotifier)
    except (ImportError, AttributeError, ValueError) as error:
        raise ParamsError(
            f"{where}.name' is {given.name!r}, which can't be imported ({error})."
            f"{did_you_mean(given.name, SHORT_NAMES)} Write {' or '.join(SHORT_NAMES)}, or the dotted path of a "
            "notifier class that is installed."
        ) from None
    if not known:
        raise ParamsError(
            f"{where}.name' is {given.name!r}, which is no class of notifiers (airflow.sdk.BaseNotifier)."
        )
    options = dict(given.model_extra or {})
    takes = _option_names(notifier)
    for key in options:
        if key not in takes:
            raise ParamsError(
                f"{where}.{key}': {given.name} does not take it.{did_you_mean(key, takes)} "
                f"It takes: {', '.join(takes)}."
            )
    if "workspace" in _signature(notifier):
        options["workspace"] = params.name
    try:
        notifier(**options)
    except (TypeError, ValueError) as error:
        raise ParamsError(f"{where}': {given.name} can't be made of its keys: {error}.") from None
    return Notify(path, options)


def _option_names(notifier: Any) -> list[str]:
    return [name for name in _signature(notifier) if name not in OWN_OPTIONS]


def _signature(notifier: Any) -> list[str]:
    """Return the names of a class's options, with those that it hands on to the classes it is made of."""
    names: list[str] = []
    for kind in notifier.__mro__:
        if kind is object or "__init__" not in vars(kind):
            continue
        parameters = list(inspect.signature(vars(kind)["__init__"]).parameters.values())[1:]
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return list(dict.fromkeys(names))
