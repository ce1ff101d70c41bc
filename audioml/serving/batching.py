"""Clips of different requests, answered together by a few threads; more than can wait their turn are refused.

A thread that is free takes what waits at once, so a lone clip waits for nobody. Under load clips gather while all
threads are busy, and go through the network together: as many as their latency budget allows.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from audioml.audio.decode import Limits
from audioml.errors import DecodeError
from audioml.inference.predictor import Answer
from audioml.serving.model import LoadedModel

FIRST_GUESS_S = 0.005
"""Of the time that a clip takes, before one was measured."""
SMOOTHING = 0.1
"""Share of the newest batch in the mean time of a clip."""


class OverloadedError(Exception):
    """So many clips wait that another one would wait too long."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"{retry_after_s:.1f} s of work wait")
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class _Job:
    model: LoadedModel
    audio: bytes
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Answer | DecodeError]
    start: float = field(default_factory=time.perf_counter)


class Batcher:
    """Threads that answer clips. Close it to end them.

    Parameters
    ----------
    threads
        That decode, make features and run the network.
    limits
        What is read of a clip at most.
    max_batch
        Clips that one thread takes together, at most.
    batch_s
        No more are taken than are answered in this time, as far as the last ones tell.
    max_wait_s
        A clip that would wait longer is refused.
    on_batch
        Called in a thread, after each batch, with the number of its clips.
    measured
        Have answers hold what monitoring keeps of their recordings.
    """

    def __init__(
        self,
        threads: int,
        limits: Limits,
        max_batch: int = 16,
        batch_s: float = 0.02,
        max_wait_s: float = 1.0,
        on_batch: Callable[[int], None] = lambda _: None,
        measured: bool = False,
    ) -> None:
        self.clip_s = FIRST_GUESS_S
        """Mean time that a thread takes for a clip, of the last ones."""
        self._limits, self._max_batch, self._batch_s, self._max_wait_s = limits, max_batch, batch_s, max_wait_s
        self._on_batch, self._measured = on_batch, measured
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=f"predict-{i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Clips that no thread has taken yet."""
        return self._jobs.qsize()

    @property
    def wait_s(self) -> float:
        """Seconds that a clip which comes now waits for its turn, as far as the last ones tell."""
        return self.waiting * self.clip_s / len(self._threads)

    async def predict(self, model: LoadedModel, audio: bytes) -> Answer:
        """Return what a model says of an audio file.

        Raises
        ------
        OverloadedError
            When the clip would wait too long for its turn; nothing was done.
        DecodeError
            When it cannot be read.
        """
        if (wait_s := self.wait_s) > self._max_wait_s:
            raise OverloadedError(wait_s)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer | DecodeError] = loop.create_future()
        self._jobs.put(_Job(model, audio, loop, future))
        answer = await future
        if isinstance(answer, DecodeError):
            raise answer
        return answer

    def close(self) -> None:
        """End the threads, once all that waits is answered."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while jobs := self._take():
            by_model: dict[int, list[_Job]] = {}
            for job in jobs:
                # Nobody waits any more for one whose request was broken off.
                if not job.future.cancelled():
                    by_model.setdefault(id(job.model), []).append(job)
            start = time.perf_counter()
            for same in by_model.values():
                self._answer(same)
            clip_s = (time.perf_counter() - start) / len(jobs)
            self.clip_s += SMOOTHING * (clip_s - self.clip_s)
            self._on_batch(len(jobs))

    def _take(self) -> list[_Job]:
        """Return what waits, up to this thread's share and the budget, once there is something; [] at the end."""
        first = self._jobs.get()
        if first is None:
            return []
        jobs = [first]
        share = -(-(1 + self._jobs.qsize()) // len(self._threads))
        most = min(self._max_batch, share, max(1, int(self._batch_s / max(self.clip_s, 1e-6))))
        with suppress(queue.Empty):
            while len(jobs) < most:
                job = self._jobs.get_nowait()
                if job is None:
                    self._jobs.put(None)
                    break
                jobs.append(job)
        return jobs

    def _answer(self, jobs: Sequence[_Job]) -> None:
        answers: Sequence[Any]
        try:
            recordings = [job.audio for job in jobs]
            answers = jobs[0].model.predictor.predict_each(recordings, self._limits, self._measured)
        except Exception as error:  # noqa: BLE001 - a request fails by itself, and the thread goes on
            if len(jobs) > 1:
                for job in jobs:
                    self._answer([job])
                return
            answers = [error]
        # All requests of a server share one loop, so it is woken once.
        jobs[0].loop.call_soon_threadsafe(_settle, jobs, answers)


def _settle(jobs: Sequence[_Job], answers: Sequence[Any]) -> None:
    for job, answer in zip(jobs, answers, strict=True):
        if job.future.done():
            continue
        if isinstance(answer, Exception) and not isinstance(answer, DecodeError):
            job.future.set_exception(answer)
        else:
            job.future.set_result(answer)
