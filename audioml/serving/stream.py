"""WS /stream: audio in as it is recorded, partial and final answers out as JSON. The contract is in docs/serving.md."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from fastapi import FastAPI, WebSocket
from starlette.websockets import WebSocketDisconnect

from audioml.errors import DecodeError
from audioml.inference.activity import EndPointing
from audioml.inference.listener import Final, Listener
from audioml.serving.model import LoadedModel
from audioml.serving.stream_request import (
    INTERNAL,
    INVALID_DATA,
    POLICY,
    TRY_AGAIN_LATER,
    StreamError,
    StreamLimits,
    StreamRequest,
    parse_request,
)
from audioml.serving.stream_session import Session, write_json

SUBPROTOCOL, TOKEN_PREFIX = "audioml", "bearer."
"""A browser that shows a token offers both, and wants one of them taken."""

log = logging.getLogger(__name__)
OnFinal = Callable[[str, StreamRequest, Final, float], None]


class Streams:
    """The streams of one server.

    Parameters
    ----------
    current
        Called at the start of each utterance for the model that answers it.
    limits
        What is taken on.
    end_pointing
        How utterances are found.
    origins
        Pages of other hosts that may open streams, such as https://example.org.
    allows
        Told the access token of a client, or None, and asked whether it may open a stream; None lets everyone in.
    on_final
        Called in a thread with the id of a stream, what its client asked, each last answer and its milliseconds.
    """

    def __init__(
        self,
        current: Callable[[], LoadedModel],
        limits: StreamLimits | None = None,
        end_pointing: EndPointing | None = None,
        origins: Sequence[str] = (),
        allows: Callable[[str | None], bool] | None = None,
        on_final: OnFinal = lambda *_: None,
    ) -> None:
        self._on_final = on_final
        self.n_open = 0
        """Streams that are open now."""
        self._current, self._limits = current, limits or StreamLimits()
        self._end_pointing = end_pointing or EndPointing()
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="stream")
        self._origins, self._allows = frozenset(origins), allows

    async def answer(self, websocket: WebSocket) -> None:
        """Serve one stream, from its handshake to its close; what is wrong with it is told to its client."""
        request_id = uuid.uuid4().hex
        try:
            await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in websocket.scope.get("subprotocols", []) else None)
            try:
                await self._answer(websocket, request_id)
            except StreamError as error:
                await _refuse(websocket, error, request_id)
            except DecodeError as error:
                await _refuse(websocket, StreamError(INVALID_DATA, error.reason, error.detail), request_id)
            except WebSocketDisconnect:
                raise
            except Exception:
                log.exception("stream %s failed", request_id)
                detail = "The server failed; its log tells why, by this request_id."
                await _refuse(websocket, StreamError(INTERNAL, "internal", detail), request_id)
        except WebSocketDisconnect:
            log.debug("stream %s: its client has gone", request_id)

    async def _answer(self, websocket: WebSocket, request_id: str) -> None:
        self._check_origin(websocket)
        if self._allows is not None and not self._allows(_find_token(websocket)):
            detail = (
                "This server asks for an access token: Authorization: Bearer TOKEN, or the subprotocol bearer.TOKEN."
            )
            raise StreamError(POLICY, "unauthorized", detail)
        request = parse_request(websocket.query_params)
        limits = self._limits
        if self.n_open >= limits.max_streams:
            detail = f"This server hears {limits.max_streams} streams at once, as many as it may. Try again later."
            raise StreamError(TRY_AGAIN_LATER, "busy", detail)
        self.n_open += 1
        try:
            listener = Listener(self._current, request.sample_rate, self._end_pointing, whole=not request.endpoint)
            on_final = partial(self._on_final, request_id, request)
            await Session(websocket, request, listener, limits, self._pool, on_final).run(self._current(), request_id)
        finally:
            self.n_open -= 1

    def _check_origin(self, websocket: WebSocket) -> None:
        """Refuse pages of other hosts: browsers open WebSockets to any host, whatever CORS says."""
        origin = websocket.headers.get("origin")
        if origin is None or origin in self._origins or origin.partition("://")[2] == websocket.headers.get("host"):
            return
        raise StreamError(POLICY, "foreign_origin", "Pages of this origin may not open streams to this server.")


def add_stream(
    app: FastAPI,
    current: Callable[[], LoadedModel],
    limits: StreamLimits | None = None,
    end_pointing: EndPointing | None = None,
    origins: Sequence[str] = (),
    allows: Callable[[str | None], bool] | None = None,
    on_final: OnFinal = lambda *_: None,
) -> Streams:
    """Add the route /stream to an application, and return its streams. The parameters are those of `Streams`."""
    streams = Streams(current, limits, end_pointing, origins, allows, on_final)
    app.add_api_websocket_route("/stream", streams.answer)
    return streams


def _find_token(websocket: WebSocket) -> str | None:
    """Return the access token that a client shows; a browser can do so in a subprotocol only."""
    scheme, _, token = websocket.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    offered: list[str] = websocket.scope.get("subprotocols", [])
    return next((name.removeprefix(TOKEN_PREFIX) for name in offered if name.startswith(TOKEN_PREFIX)), None)


async def _refuse(websocket: WebSocket, error: StreamError, request_id: str) -> None:
    content = {"type": "error", "reason": error.reason, "detail": error.detail, "request_id": request_id}
    await websocket.send_text(write_json(content))
    await websocket.close(error.code)
