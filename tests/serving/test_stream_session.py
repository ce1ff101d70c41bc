from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from audioml.inference.listener import Listener
from audioml.serving.model import LoadedModel
from audioml.serving.stream_request import StreamLimits, StreamRequest
from audioml.serving.stream_session import MAX_WAITING, Session

RATE = 8000


class Client:
    """Sends bursts of a tone, 0.4 s each behind 0.6 s of silence, as fast as they are taken."""

    def __init__(self, n_bursts: int) -> None:
        tone = 0.3 * np.sin(2 * np.pi * 200 * np.arange(round(0.4 * RATE)) / RATE)
        burst = np.round(32767 * np.concatenate([np.zeros(round(0.6 * RATE)), tone])).astype("<i2").tobytes()
        self.messages: list[dict[str, Any]] = [{"type": "websocket.receive", "bytes": burst}] * n_bursts
        self.messages.append({"type": "websocket.receive", "text": '{"type":"end"}'})
        self.n_taken = 0
        self.events: list[dict[str, Any]] = []
        self.code = 0

    async def receive(self) -> dict[str, Any]:
        self.n_taken += 1
        return self.messages[self.n_taken - 1]

    async def send_text(self, text: str) -> None:
        self.events.append(json.loads(text))

    async def close(self, code: int = 1000) -> None:
        self.code = code


def test_no_more_is_read_while_much_waits_and_all_is_answered_in_the_end() -> None:
    asked, free = threading.Event(), threading.Event()

    class Waiting:
        def predict(self, clips: Sequence[bytes]) -> list[dict[str, Any]]:
            raise NotImplementedError

        def predict_audio(self, audio: Any, sample_rate: int) -> dict[str, Any]:
            asked.set()
            assert free.wait(60)
            return {"label": "done"}

    client, model = Client(100), LoadedModel(Waiting(), "tones", 3)

    async def run() -> int:
        with ThreadPoolExecutor(1) as pool:
            listener = Listener(lambda: model, RATE)
            request = StreamRequest(RATE, "pcm16", True)
            session = Session(client, request, listener, StreamLimits(), pool)  # type: ignore[arg-type]
            running = asyncio.create_task(session.run(model, "id"))
            await asyncio.to_thread(asked.wait, 60)
            for _ in range(1000):
                await asyncio.sleep(0)
            n_taken = client.n_taken
            free.set()
            await running
            return n_taken

    # Those at work in the thread, and those that wait.
    assert MAX_WAITING <= asyncio.run(run()) <= 2 * MAX_WAITING + 4
    finals = [event for event in client.events if event["type"] == "final"]
    assert [event["utterance"] for event in finals] == list(range(1, 101))
    assert client.events[-1] == {"type": "end", "duration_s": 100.0}
    assert client.code == 1000
