"""One live stream of WS /stream: messages in, answers out, the work in threads."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from audioml.inference.listener import Event, Final, Listener, Partial, Work, do_work
from audioml.inference.utterance import Model
from audioml.serving.stream_request import (
    INVALID_DATA,
    POLICY,
    UNSUPPORTED_DATA,
    Floats,
    StreamError,
    StreamLimits,
    StreamRequest,
)

PART_S = 1.0
"""Audio that a thread takes at a time, so that a client that sends much at once leaves room for others."""
MAX_WAITING = 16
"""Messages whose work waits for a thread; then no more are read."""


class Session:
    """One stream: a task reads messages, another lets threads hear what has come meanwhile.

    Parameters
    ----------
    websocket
        Accepted.
    request, limits
        What its client asks, and what the server allows.
    listener
        Hears it.
    pool
        Where decoding and models run.
    on_final
        Called in a thread with each last answer and the milliseconds that it took.
    """

    def __init__(
        self,
        websocket: WebSocket,
        request: StreamRequest,
        listener: Listener,
        limits: StreamLimits,
        pool: ThreadPoolExecutor,
        on_final: Callable[[Final, float], None] = lambda *_: None,
    ) -> None:
        self._on_final = on_final
        self._websocket, self._request, self._limits, self._pool = websocket, request, limits, pool
        self._decoder, self._listener = request.make_decoder(), listener
        self._part = int(PART_S * request.sample_rate)
        self._waiting: list[tuple[float, list[Work]]] = []
        """Work that no thread has taken yet, and when the message came that brought it."""
        self._has_ended = False
        self._news, self._room = asyncio.Event(), asyncio.Event()

    async def run(self, model: Model, request_id: str) -> None:
        """Serve it, beginning with a model that is there, to its last message.

        Raises
        ------
        StreamError, DecodeError
            When it cannot go on.
        WebSocketDisconnect
            When its client has gone.
        """
        await self._send(
            type="ready",
            request_id=request_id,
            model={"name": model.name, "version": model.version},
            sample_rate=self._request.sample_rate,
            mode="utterances" if model.streaming is None else "streaming",
        )
        reader = asyncio.create_task(self._read())
        reader.add_done_callback(lambda _: self._news.set())
        try:
            await self._work(reader)
        finally:
            reader.cancel()
        await self._send(type="end", duration_s=round(self._listener.heard_s, 6))
        await self._websocket.close()

    async def _read(self) -> None:
        """Take messages up to the last one; none while much work waits."""
        while not self._has_ended:
            try:
                async with asyncio.timeout(self._limits.idle_timeout_s):
                    message = await self._websocket.receive()
            except TimeoutError:
                detail = f"No message came for {self._limits.idle_timeout_s:g} s, the limit of this server."
                raise StreamError(POLICY, "idle", detail) from None
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1006))
            data = message.get("bytes")
            if data is None:
                _check_end(message["text"])
                await self._leave(self._listener.listen_end())
                self._has_ended = True
            else:
                self._request.check(data, self._limits.max_message_bytes)
                await self._listen(self._decoder.decode(data))

    async def _listen(self, samples: Floats) -> None:
        if len(samples) <= self._part:
            # Sooner done than handed to a thread.
            await self._leave(self._listener.listen(samples))
            return
        loop = asyncio.get_running_loop()
        for start in range(0, len(samples), self._part):
            part = samples[start : start + self._part]
            await self._leave(await loop.run_in_executor(self._pool, self._listener.listen, part))

    async def _leave(self, work: list[Work]) -> None:
        """Leave work to a thread, and wait while there is much of it."""
        if self._listener.heard_s > self._limits.max_duration_s:
            detail = f"The stream is longer than {self._limits.max_duration_s:g} s, the limit of this server."
            raise StreamError(POLICY, "too_long", detail)
        if not work:
            return
        self._waiting.append((time.perf_counter(), work))
        self._news.set()
        if len(self._waiting) >= MAX_WAITING:
            self._room.clear()
            await self._room.wait()

    async def _work(self, reader: asyncio.Task[None]) -> None:
        """Have a thread do the work that waits, again and again, and send what it answers."""
        loop = asyncio.get_running_loop()
        while not (self._has_ended and not self._waiting):
            await self._news.wait()
            self._news.clear()
            if reader.done():
                reader.result()
            waiting, self._waiting = self._waiting, []
            self._room.set()
            if waiting:
                for answer in await loop.run_in_executor(self._pool, self._answer, waiting):
                    await self._websocket.send_text(answer)

    def _answer(self, waiting: list[tuple[float, list[Work]]]) -> list[str]:
        """Do the work of some messages; return the answers that are to be sent. In a thread."""
        answers = []
        for came_s, work in waiting:
            started_s = time.perf_counter()
            answers += [self._write_event(event, came_s, started_s) for event in do_work(work)]
        return answers

    def _write_event(self, event: Event, came_s: float, started_s: float) -> str:
        content = {"utterance": event.utterance, "start_s": event.start_s}
        if isinstance(event, Partial):
            return write_json({"type": "partial", **content, "heard_s": event.heard_s, **event.prediction})
        model = event.model
        now_s = time.perf_counter()
        timing_ms = {"wait": _ms(came_s, started_s), "predict": _ms(started_s, now_s), "total": _ms(came_s, now_s)}
        self._on_final(event, timing_ms["total"])
        return write_json(
            {
                "type": "final",
                **content,
                "end_s": event.end_s,
                **event.prediction,
                "model": {"name": model.name, "version": model.version},
                "timing_ms": timing_ms,
            }
        )

    async def _send(self, **content: Any) -> None:
        await self._websocket.send_text(write_json(content))


def _check_end(text: str) -> None:
    """Raise StreamError unless a text message is the one that ends a stream."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        detail = 'A text message is no JSON. Send {"type": "end"} at the end.'
        raise StreamError(INVALID_DATA, "bad_json", detail) from None
    if not isinstance(content, dict) or content.get("type") != "end":
        detail = 'A text message other than {"type": "end"}. Send audio in binary messages.'
        raise StreamError(UNSUPPORTED_DATA, "unknown_message", detail)


def write_json(content: dict[str, Any]) -> str:
    """Return the text of a message."""
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def _ms(start_s: float, end_s: float) -> float:
    return round(1000 * (end_s - start_s), 3)
