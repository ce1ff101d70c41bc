from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from audioml.audio.decode import NO_LIMITS, Limits
from audioml.errors import DecodeError
from audioml.inference.predictor import Answer
from audioml.serving.batching import Batcher, OverloadedError
from audioml.serving.model import LoadedModel
from tests.serving._served import INFO


class Recorder:
    """Says back what it hears, and holds its first batch until it is let go."""

    def __init__(self, *, hold: bool = False) -> None:
        self.batches: list[list[bytes]] = []
        self.free = threading.Event()
        self.asked = threading.Event()
        if not hold:
            self.free.set()

    def predict_each(
        self, clips: Sequence[bytes], limits: Limits = NO_LIMITS, measured: bool = False
    ) -> list[Answer | DecodeError]:
        self.batches.append(list(clips))
        self.asked.set()
        assert self.free.wait(60)
        if b"fault" in clips:
            raise RuntimeError("fault")
        return [DecodeError("empty", "") if clip == b"" else Answer({"label": clip}, INFO) for clip in clips]


async def _hold(batcher: Batcher, model: LoadedModel, recorder: Recorder) -> asyncio.Task[Answer]:
    """Have the only thread busy with one clip."""
    first = asyncio.create_task(batcher.predict(model, b"first"))
    await asyncio.to_thread(recorder.asked.wait, 60)
    return first


def test_clips_that_wait_go_together_up_to_the_most() -> None:
    recorder = Recorder(hold=True)
    model = LoadedModel(recorder, "tones", 1)

    async def ask() -> list[object]:
        batcher = Batcher(1, NO_LIMITS, max_batch=4, batch_s=60)
        first = await _hold(batcher, model, recorder)
        others = [asyncio.create_task(batcher.predict(model, bytes([i]))) for i in range(9)]
        await asyncio.sleep(0)
        assert batcher.waiting == 9
        recorder.free.set()
        answers = [answer.prediction["label"] for answer in await asyncio.gather(first, *others)]
        await asyncio.to_thread(batcher.close)
        return answers

    assert asyncio.run(ask()) == [b"first", *(bytes([i]) for i in range(9))]
    assert [len(batch) for batch in recorder.batches] == [1, 4, 4, 1]


def test_budget_bounds_a_batch() -> None:
    """Where a clip takes longer than the budget, clips go one by one."""
    recorder = Recorder(hold=True)
    model = LoadedModel(recorder, "tones", 1)

    async def ask() -> None:
        batcher = Batcher(1, NO_LIMITS, batch_s=0.001, max_wait_s=60)
        batcher.clip_s = 0.5
        first = await _hold(batcher, model, recorder)
        others = [asyncio.create_task(batcher.predict(model, bytes([i]))) for i in range(3)]
        await asyncio.sleep(0)
        batcher.clip_s = 0.5
        recorder.free.set()
        await asyncio.gather(first, *others)
        await asyncio.to_thread(batcher.close)

    asyncio.run(ask())
    assert [len(batch) for batch in recorder.batches] == [1, 1, 1, 1]


def test_models_are_not_mixed() -> None:
    recorders = [Recorder(hold=True), Recorder()]
    old, new = (LoadedModel(recorder, "tones", i) for i, recorder in enumerate(recorders))

    async def ask() -> None:
        batcher = Batcher(1, NO_LIMITS, batch_s=60)
        first = await _hold(batcher, old, recorders[0])
        others = [asyncio.create_task(batcher.predict(model, bytes([i]))) for i, model in enumerate([old, new] * 2)]
        await asyncio.sleep(0)
        recorders[0].free.set()
        await asyncio.gather(first, *others)
        await asyncio.to_thread(batcher.close)

    asyncio.run(ask())
    assert recorders[0].batches == [[b"first"], [b"\0", b"\2"]]
    assert recorders[1].batches == [[b"\1", b"\3"]]


def test_one_bad_clip_is_no_matter_to_the_others() -> None:
    recorder = Recorder(hold=True)
    model = LoadedModel(recorder, "tones", 1)

    async def ask() -> list[object]:
        batcher = Batcher(1, NO_LIMITS, batch_s=60)
        first = await _hold(batcher, model, recorder)
        others = [asyncio.create_task(batcher.predict(model, clip)) for clip in (b"a", b"", b"fault", b"b")]
        await asyncio.sleep(0)
        recorder.free.set()
        done = await asyncio.gather(first, *others, return_exceptions=True)
        await asyncio.to_thread(batcher.close)
        return [type(each) for each in done]

    assert asyncio.run(ask()) == [Answer, Answer, DecodeError, RuntimeError, Answer]


def test_too_much_work_is_refused_with_the_time_to_come_back() -> None:
    recorder = Recorder(hold=True)
    model = LoadedModel(recorder, "tones", 1)

    async def ask() -> float:
        batcher = Batcher(1, NO_LIMITS, max_wait_s=1.0)
        first = await _hold(batcher, model, recorder)
        batcher.clip_s = 0.6
        others = [asyncio.create_task(batcher.predict(model, b"x")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError) as refused:
            await batcher.predict(model, b"x")
        recorder.free.set()
        await asyncio.gather(first, *others)
        await asyncio.to_thread(batcher.close)
        return refused.value.retry_after_s

    assert asyncio.run(ask()) == pytest.approx(1.2)


def test_clip_whose_request_was_broken_off_is_not_answered() -> None:
    recorder = Recorder(hold=True)
    model = LoadedModel(recorder, "tones", 1)

    async def ask() -> None:
        batcher = Batcher(1, NO_LIMITS)
        first = await _hold(batcher, model, recorder)
        gone = asyncio.create_task(batcher.predict(model, b"gone"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        recorder.free.set()
        await first
        await asyncio.to_thread(batcher.close)

    asyncio.run(ask())
    assert recorder.batches == [[b"first"]]
