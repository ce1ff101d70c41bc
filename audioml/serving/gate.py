"""What happens to every request around its route: an id, the token, room for its bytes, a line in the log, metrics."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from audioml.serving.logs import RequestLog
from audioml.serving.metrics import ServerMetrics
from audioml.serving.problems import REQUEST_ID, RefusalError
from audioml.serving.tokens import Tokens

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

Endpoint = Callable[[Request], Awaitable[Response]]
DOCS_FILES = "/docs-files"
OPEN = ("/health", "/static/", DOCS_FILES + "/")
"""Paths that no token guards: what a load balancer asks, and the page that asks people for a token."""
OPEN_PAGES = ("/", "/ping", "/docs", "/openapi.json", "/favicon.ico")
BUSY_RETRY_S = 1.0


class Gate:
    """ASGI middleware.

    Parameters
    ----------
    app
        What answers.
    tokens
        Who may ask.
    metrics
        Where requests are counted.
    paths
        That are named in metrics; all others count as ``other``.
    max_waiting_bytes
        Of the bodies of all requests that are not answered yet; further ones are refused.
    max_body_bytes
        What a body that does not state its length may have.
    quick
        What answers POST at a path in the application's place: finding a route, and what it depends on, takes longer
        than all else around a small prediction, and these depend on nothing.
    log
        Gets a line a request; None writes none.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens,
        metrics: ServerMetrics,
        paths: frozenset[str],
        max_waiting_bytes: int,
        max_body_bytes: int,
        quick: Mapping[str, Endpoint],
        log: RequestLog | None = None,
    ) -> None:
        self._app, self._tokens, self._metrics, self._paths, self._log = app, tokens, metrics, paths, log
        self._quick = quick
        self._max_waiting_bytes, self._max_body_bytes = max_waiting_bytes, max_body_bytes
        self._waiting_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http":
            await self._pass_request(scope, receive, send)
        else:
            # Live streams bring their tokens in other ways: see `audioml.serving.stream`.
            await self._app(scope, receive, send)

    async def _pass_request(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        request_id = new_id()
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (REQUEST_ID.lower().encode(), request_id.encode())]
            await send(message)

        path = scope["path"]
        headers = dict(scope["headers"])
        n_bytes = self._stated_bytes(scope["method"], headers)
        self._waiting_bytes += n_bytes
        try:
            if not _is_open(path) and not self._tokens.allow(_bearer(headers)):
                await _unauthorized().response(request_id)(scope, receive, send_with_id)
            elif n_bytes and self._waiting_bytes > self._max_waiting_bytes:
                detail = "The uploads that wait here fill the memory set aside for them. Come back later."
                await RefusalError(503, "busy", detail, BUSY_RETRY_S).response(request_id)(scope, receive, send_with_id)
            else:
                await self._answer(scope, receive, send_with_id, request_id)
        finally:
            self._waiting_bytes -= n_bytes
            seconds = time.perf_counter() - start
            # 499: the client has gone before there was an answer, as nginx calls it.
            self._record(scope["method"], path, status or 499, seconds, request_id, state)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        """Have a quick route answer, or the application."""
        quick = self._quick.get(scope["path"]) if scope["method"] == "POST" else None
        if quick is None:
            await self._app(scope, receive, send)
            return
        try:
            response = await quick(Request(scope, receive, send))
        except RefusalError as error:
            response = error.response(request_id)
        await response(scope, receive, send)

    def _stated_bytes(self, method: str, headers: dict[bytes, bytes]) -> int:
        if method not in ("POST", "PUT", "PATCH"):
            return 0
        stated = headers.get(b"content-length", b"")
        # One that states too much is refused by its route before it is read.
        return min(int(stated), self._max_body_bytes) if stated.isdigit() else self._max_body_bytes

    def _record(
        self, method: str, path: str, status: int, seconds: float, request_id: str, state: MutableMapping[str, Any]
    ) -> None:
        named = path if path in self._paths else "other"
        self._metrics.count_request(named, status, seconds)
        if self._log:
            line = {"request_id": request_id, "method": method, "path": path, "status": status}
            self._log.add({**line, "ms": round(1000 * seconds, 3), **state.get("log", {})})


def new_id() -> str:
    """Return 128 random bits as hex; they need be no secret, only no other's."""
    return f"{random.getrandbits(128):032x}"


def _is_open(path: str) -> bool:
    return path in OPEN_PAGES or path.startswith(OPEN)


def _bearer(headers: dict[bytes, bytes]) -> str | None:
    scheme, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def _unauthorized() -> RefusalError:
    return RefusalError(
        401,
        "unauthorized",
        "This server answers with a valid access token only: send it as 'Authorization: Bearer TOKEN'.",
    )
