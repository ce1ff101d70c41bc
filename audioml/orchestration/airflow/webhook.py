"""A notifier that posts JSON to a URL: what happened, and a `text` that chat programs show."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx
from airflow.sdk import BaseNotifier, Context

from audioml.errors import ServiceError
from audioml.orchestration.airflow.messages import describe_event

FROM_ENVIRONMENT = "env:"
"""Before the name of an environment variable that holds the value, so that no secret stands in params.yaml."""
TIMEOUT_S = 10.0
CONNECT_RETRIES = 2


class WebhookNotifier(BaseNotifier):  # type: ignore[misc]
    """Posts ``{workspace, dag, run, task, state, error, url, text}``.

    Slack, Mattermost, Rocket.Chat and Teams webhooks show `text` and ignore the rest.

    Parameters
    ----------
    url : str
        Where to post; ``env:NAME`` takes it from the environment variable NAME when it is needed.
    headers : mapping, optional
        Of the request, such as Authorization; values may be ``env:NAME`` too.
    timeout_s : float
        For each of connecting, sending and reading, in seconds.
    workspace : str
        Named in the message; `audioml.orchestration.airflow.alerts` sets it.
    **context
        `context`, as Airflow gives it to notifiers in the triggerer.

    Raises
    ------
    ServiceError
        When sending, if the server does not answer with success. It names the host only: a webhook's path is
        its secret.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = TIMEOUT_S,
        workspace: str = "",
        **context: Any,
    ) -> None:
        super().__init__(**context)
        self.url = url
        self.headers = dict(headers or {})
        self.timeout_s = timeout_s
        self.workspace = workspace

    def notify(self, context: Context) -> None:
        """Post what the context of a failed Airflow task says."""
        url, options = self._request(context)
        with httpx.Client(transport=httpx.HTTPTransport(retries=CONNECT_RETRIES), timeout=self.timeout_s) as client:
            try:
                _check(client.post(url, **options))
            except httpx.TransportError as error:
                raise _no_answer(url, error) from None

    async def async_notify(self, context: Context) -> None:
        """Post what the context of a missed deadline says; runs in the triggerer."""
        url, options = self._request(context)
        transport = httpx.AsyncHTTPTransport(retries=CONNECT_RETRIES)
        async with httpx.AsyncClient(transport=transport, timeout=self.timeout_s) as client:
            try:
                _check(await client.post(url, **options))
            except httpx.TransportError as error:
                raise _no_answer(url, error) from None

    def _request(self, context: Context) -> tuple[str, dict[str, Any]]:
        headers = {name: resolve_secret(value) for name, value in self.headers.items()}
        return resolve_secret(self.url), {"json": describe_event(self.workspace, context), "headers": headers}


def resolve_secret(value: str) -> str:
    """Return the value, or for ``env:NAME`` that of the environment variable.

    Raises
    ------
    ServiceError
        When there is no such variable.
    """
    if not value.startswith(FROM_ENVIRONMENT):
        return value
    name = value.removeprefix(FROM_ENVIRONMENT)
    if not os.environ.get(name):
        raise ServiceError(f"The webhook's {value} has no value: set {name} in the environment of Airflow's processes.")
    return os.environ[name]


def _check(response: httpx.Response) -> None:
    if not response.is_success:
        raise ServiceError(
            f"The webhook at {response.request.url.host} answered {response.status_code}: {response.text[:200]}"
        )


def _no_answer(url: str, error: httpx.TransportError) -> ServiceError:
    return ServiceError(f"The webhook at {urlsplit(url).hostname} does not answer: {error or type(error).__name__}")
