"""From a recording's bytes to what the served version says of it: one way for every route."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audioml.audio.decode import AudioInfo, Limits
from audioml.errors import DecodeError
from audioml.inference.listener import Final
from audioml.inference.predictor import Answer
from audioml.params import ServingParams
from audioml.serving.batching import Batcher, OverloadedError
from audioml.serving.live import PRIMARY, SHADOW, LiveModels
from audioml.serving.metrics import ServerMetrics
from audioml.serving.model import LoadedModel
from audioml.serving.prediction_log import Logged, PredictionLog
from audioml.serving.problems import RefusalError
from audioml.serving.stream_request import StreamRequest
from audioml.units import samples_to_seconds, seconds_to_samples

SHADOW_WAIT_S = 0.1
"""The shadow hears nothing while more work than this waits: it must cost the answers nothing."""
MAX_SHADOWED = 256
"""Recordings that are held for the shadow at a time."""


@dataclass(frozen=True)
class Reply:
    """What is said of one recording, and who says it."""

    model: LoadedModel
    answer: Answer | DecodeError

    @property
    def duration_s(self) -> float:
        """Of the recording, in seconds."""
        assert isinstance(self.answer, Answer), "it was read"
        return round(samples_to_seconds(self.answer.info.n_samples, self.answer.info.sample_rate), 6)


class Answering:
    """Chooses a version for each request, has its recordings answered, and writes down what was said.

    Parameters
    ----------
    models
        What serves.
    params
        Limits, threads and budgets.
    metrics
        Where answers are counted.
    log
        Where they are written; None writes nothing.
    threads
        That predict.
    """

    def __init__(
        self,
        models: LiveModels,
        params: ServingParams,
        metrics: ServerMetrics,
        log: PredictionLog | None,
        threads: int,
    ) -> None:
        self.models, self._params, self._metrics, self._log = models, params, metrics, log
        limits = Limits(params.max_duration_s, params.max_channels, params.max_sample_rate)
        self._batcher = Batcher(
            threads,
            limits,
            params.max_batch,
            params.batch_ms / 1000,
            params.max_wait_ms / 1000,
            metrics.batch_clips.observe,
            measured=log is not None,
        )
        metrics.watch(lambda: models.models, lambda: models.refused)
        metrics.watch_value("audioml_waiting", "Recordings that wait for a thread", lambda: self.waiting)
        self._shadowed: set[asyncio.Task[None]] = set()

    @property
    def waiting(self) -> int:
        """Recordings that no thread has taken yet."""
        return self._batcher.waiting

    async def answer(self, request_id: str, recordings: Sequence[bytes]) -> list[Reply]:
        """Return what one version says of the recordings of a request, in order.

        Raises
        ------
        RefusalError
            503 when they would wait too long for their turn.
        """
        role, model = self.models.choose()
        start = time.perf_counter()
        tasks = [self._predict(model, audio) for audio in recordings]
        answers = [await tasks[0]] if len(tasks) == 1 else await asyncio.gather(*tasks)
        ms = 1000 * (time.perf_counter() - start)
        shadow = self.models.models.get(SHADOW)
        for i, (audio, answer) in enumerate(zip(recordings, answers, strict=True)):
            if isinstance(answer, DecodeError):
                self._metrics.unreadable.labels(answer.reason).inc()
                continue
            self._metrics.predictions.labels(role, str(model.version)).inc()
            self._metrics.audio_s.inc(answer.info.n_samples / answer.info.sample_rate)
            if self._log:
                said, measures = answer.prediction, answer.measures
                version = (model.name, model.version, role)
                row = Logged(request_id, i, *version, audio, answer.info, said, round(ms, 3), measures)
                self._log.add(row)
            if shadow:
                self._ask_shadow(shadow, audio, answer.prediction)
        return [Reply(model, answer) for answer in answers]

    def note_utterance(self, request_id: str, request: StreamRequest, final: Final, ms: float) -> None:
        """Count and write down the last answer to an utterance of a live stream. Called in any thread."""
        models, model = self.models.models, final.model
        role = next((role for role, one in models.items() if one.version == model.version), PRIMARY)
        seconds = final.end_s - final.start_s
        self._metrics.predictions.labels(role, str(model.version)).inc()
        self._metrics.audio_s.inc(seconds)
        if self._log:
            n_samples = seconds_to_samples(seconds, request.sample_rate)
            info = AudioInfo("STREAM", request.format.upper(), request.sample_rate, 1, n_samples)
            said = final.prediction
            self._log.add(Logged(request_id, final.utterance, model.name, model.version, role, None, info, said, ms))

    async def _predict(self, model: LoadedModel, audio: bytes) -> Answer | DecodeError:
        try:
            return await self._batcher.predict(model, audio)
        except DecodeError as error:
            return error
        except OverloadedError as error:
            detail = "More recordings wait than can be answered in time. Come back later."
            raise RefusalError(503, "busy", detail, error.retry_after_s) from None

    def _ask_shadow(self, shadow: LoadedModel, audio: bytes, said: dict[str, Any]) -> None:
        if self._batcher.wait_s > SHADOW_WAIT_S or len(self._shadowed) >= MAX_SHADOWED:
            self._metrics.shadow.labels("skipped").inc()
            return
        task = asyncio.create_task(self._compare(shadow, audio, said))
        self._shadowed.add(task)
        task.add_done_callback(self._shadowed.discard)

    async def _compare(self, shadow: LoadedModel, audio: bytes, said: dict[str, Any]) -> None:
        try:
            answer = await self._batcher.predict(shadow, audio)
            outcome = "same" if says_the_same(said, answer.prediction) else "different"
        except Exception:  # noqa: BLE001 - whatever the shadow does, nobody waits for it
            outcome = "failed"
        self._metrics.shadow.labels(outcome).inc()

    async def close(self) -> None:
        """End the threads and write what is not written yet."""
        for task in list(self._shadowed):
            task.cancel()
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._batcher.close()
        if self._log:
            self._log.close()


def says_the_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two answers of a task say the same, however sure they are.

    That is its first field: the label, the tags, the text, the speaker. Events count by their labels, in order.
    """
    name = next(iter(one))
    if name not in other:
        return False
    first, second = one[name], other[name]
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_is_same, first, second))
    return _is_same(first, second)


def _is_same(first: object, second: object) -> bool:
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.get("label") == second.get("label")
    return first == second
