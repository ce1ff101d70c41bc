from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audioml.errors import DecodeError
from audioml.inference.activity import EndPointing
from audioml.inference.listener import Event, Final, Listener, Partial, do_work
from audioml.inference.predictor import Predictor
from audioml.inference.streaming import StreamingPredictor
from audioml.store.files import write_json

from .._streaming_models import FEATURES, MODELS, as_wav, assert_same, export, make_sound

RATE = 8000


@dataclass(frozen=True)
class Loaded:
    predictor: Predictor
    streaming: StreamingPredictor | None = None
    name: str = "model"
    version: int = 1


@pytest.fixture(scope="module")
def tones(tone_model: tuple[Path, dict[str, Any]]) -> Loaded:
    """It needs whole clips."""
    write_json(tone_model[0].parent / "model.json", tone_model[1])
    return Loaded(Predictor.load(tone_model[0].parent))


@pytest.fixture(scope="module", params=MODELS)
def streamed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Each kind of model that can answer streams."""
    folder = tmp_path_factory.mktemp("model")
    export(request.param, folder)
    predictor = Predictor.load(folder)
    return Loaded(predictor, StreamingPredictor.load(predictor, folder))


def say(sounds: Sequence[np.ndarray], rate: int, pause_s: float = 0.8, noise_dbfs: float = -75.0) -> np.ndarray:
    """Sounds with pauses before, between and behind them, as 16-bit samples would hold them."""
    pause = np.zeros(round(pause_s * rate), np.float32)
    audio = np.concatenate([pause, *(part for sound in sounds for part in (sound, pause))])
    audio = audio + np.random.default_rng(0).normal(0, 10 ** (noise_dbfs / 20), len(audio))
    return np.round(audio * 32768).clip(-32768, 32767).astype(np.float32) / 32768


def make_tone(frequency_hz: float, duration_s: float, rate: int = RATE) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * frequency_hz * np.arange(round(duration_s * rate)) / rate)).astype(np.float32)


def listen(listener: Listener, audio: np.ndarray, rate: int, size: int = 160) -> list[tuple[float, Event]]:
    """Events, each with the seconds of the stream that were heard by then."""
    events = []
    for start in range(0, len(audio), size):
        events += [(listener.heard_s, event) for event in listener.push(audio[start : start + size])]
    return events + [(listener.heard_s, event) for event in listener.finish()]


def finals_of(events: Sequence[tuple[float, Event]]) -> list[Final]:
    return [event for _, event in events if isinstance(event, Final)]


def cut(audio: np.ndarray, final: Final, rate: int) -> bytes:
    return as_wav(audio[round(final.start_s * rate) : round(final.end_s * rate)], rate)


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
@pytest.mark.parametrize("size", [1, 160, 4001, 10**6])
def test_a_last_answer_is_that_of_the_file(tones: Loaded, rate: int, size: int) -> None:
    if size == 1 and rate != 8000:
        pytest.skip("sample by sample is slow, and no different at other rates")
    sounds = [make_tone(frequency, 0.4, rate) for frequency in (200, 3000, 250)]
    audio = say(sounds, rate)
    finals = finals_of(listen(Listener(lambda: tones, rate), audio, rate, size))
    assert [final.prediction["label"] for final in finals] == ["low", "high", "low"]
    assert [final.utterance for final in finals] == [1, 2, 3]
    for final in finals:
        assert final.prediction == tones.predictor.predict([cut(audio, final, rate)])[0]
        assert final.end_s - final.start_s == pytest.approx(0.8, abs=0.06)


def test_partial_answers_come_soon_then_now_and_then_and_stop_with_the_sound(tones: Loaded) -> None:
    audio = say([make_tone(200, 1.0), make_tone(3000, 0.05)], RATE)
    events = listen(Listener(lambda: tones, RATE), audio, RATE)
    partials = [(at_s, event) for at_s, event in events if isinstance(event, Partial)]
    times_s = [at_s for at_s, _ in partials]
    assert 0.8 + 0.08 <= times_s[0] <= 0.8 + 0.12
    np.testing.assert_allclose(np.diff(times_s), 0.2, atol=0.03)
    assert times_s[-1] < 1.85
    for at_s, event in partials:
        assert event.utterance == 1
        assert event.start_s + event.heard_s == pytest.approx(at_s, abs=0.02)
        heard = audio[round(event.start_s * RATE) : round((event.start_s + event.heard_s) * RATE)]
        assert event.prediction == tones.predictor.predict([as_wav(heard, RATE)])[0]
    assert len(finals_of(events)) == 1


def test_answers_to_a_long_utterance_come_later_apart(tones: Loaded) -> None:
    swelling = make_tone(200, 9.0) * np.abs(np.sin(np.pi * 4 * np.arange(9 * RATE) / RATE)).astype(np.float32)
    events = listen(Listener(lambda: tones, RATE), say([swelling], RATE), RATE)
    times_s = [at_s for at_s, event in events if isinstance(event, Partial)]
    assert 0.6 < times_s[-1] - times_s[-2] < 1.0


def test_work_that_waits_is_not_done_twice(tones: Loaded) -> None:
    audio = say([make_tone(200, 1.0)], RATE)
    listener, work = Listener(lambda: tones, RATE), []
    for start in range(0, len(audio), 160):
        work += listener.listen(audio[start : start + 160])
    work += listener.listen_end()
    assert len(work) > 3
    partial, final = do_work(work)
    assert isinstance(partial, Partial)
    assert partial.heard_s > 1.0
    assert isinstance(final, Final)


def test_silence_has_no_utterance(tones: Loaded) -> None:
    assert listen(Listener(lambda: tones, RATE), say([], RATE, 5.0), RATE) == []


@pytest.mark.parametrize("size", [320, 10**6])
def test_a_stream_ends_as_the_file_does(streamed: Loaded, size: int) -> None:
    """Text, words and times are equal, confidences within 1e-3, whatever the parts; at the model's rate and another."""
    for rate in (FEATURES.sample_rate, 24000):
        sounds = [make_sound(round(duration_s * rate), seed) for seed, duration_s in enumerate((0.7, 2.0))]
        audio = say(sounds, rate)
        events = listen(Listener(lambda: streamed, rate), audio, rate, size)
        finals = finals_of(events)
        assert len(finals) == 2
        for final in finals:
            assert_same(final.prediction, streamed.predictor.predict([cut(audio, final, rate)])[0])
        assert len(set(finals[1].prediction["text"])) > 2
        partials = [event for _, event in events if isinstance(event, Partial)]
        if size == 320:
            assert {event.utterance for event in partials} == {1, 2}
            assert all(a.prediction != b.prediction for a, b in pairwise(partials))


def test_a_streamed_utterance_is_cut_where_it_is_too_long(streamed: Loaded) -> None:
    rate = FEATURES.sample_rate
    audio = say([make_sound(round(3.5 * rate))], rate)
    listener = Listener(lambda: streamed, rate, EndPointing(max_utterance_s=1.5))
    finals = finals_of(listen(listener, audio, rate, 320))
    assert len(finals) == 3
    assert finals[0].end_s == finals[1].start_s
    for final in finals:
        assert_same(final.prediction, streamed.predictor.predict([cut(audio, final, rate)])[0])


def test_a_whole_stream_may_be_one_utterance(tones: Loaded, streamed: Loaded) -> None:
    for model, rate in ((tones, RATE), (streamed, FEATURES.sample_rate)):
        audio = say([make_sound(rate), make_sound(rate, 1)], rate, 1.0)
        events = listen(Listener(lambda model=model: model, rate, whole=True), audio, rate)
        assert [event.utterance for _, event in events] == [1] * len(events)
        (final,) = finals_of(events)
        assert (final.start_s, final.end_s) == (0.0, len(audio) / rate)
        offline = model.predictor.predict([as_wav(audio, rate)])[0]
        if model is tones:
            assert final.prediction == offline
        else:
            assert_same(final.prediction, offline)
        assert any(3.0 < at_s < 4.1 for at_s, event in events if isinstance(event, Partial))


def test_one_utterance_is_not_endless(tones: Loaded) -> None:
    listener = Listener(lambda: tones, RATE, EndPointing(max_utterance_s=2.0), whole=True)
    listener.push(np.zeros(2 * RATE, np.float32))
    with pytest.raises(DecodeError, match=r"too_long.*2 s at most"):
        listener.push(np.zeros(1, np.float32))


def test_an_utterance_keeps_the_model_that_it_began_with(tones: Loaded) -> None:
    models = [Loaded(tones.predictor, version=version) for version in (1, 2)]
    audio = say([make_tone(200, 0.5), make_tone(3000, 0.5)], RATE)
    listener = Listener(lambda: models[0], RATE)
    middle = round(1.0 * RATE)
    listener.push(audio[:middle])
    models.reverse()
    finals = [event for event in listener.push(audio[middle:]) + listener.finish() if isinstance(event, Final)]
    assert [final.model.version for final in finals] == [1, 2]


def test_no_more_than_an_utterance_is_held(tones: Loaded) -> None:
    listener = Listener(lambda: tones, RATE, EndPointing(max_utterance_s=2.0))
    loud = (make_tone(200, 1.0) * np.abs(np.sin(np.arange(RATE) / 800))).astype(np.float32)
    for _ in range(60):
        for start in range(0, RATE, 400):
            listener.push(loud[start : start + 400])
        assert sum(block.size for block in listener._held._blocks) <= 2.1 * RATE


def test_bad_samples_are_named(tones: Loaded) -> None:
    with pytest.raises(ValueError, match=r"must be mono, .* shape \(2, 100\)"):
        Listener(lambda: tones, RATE).push(np.zeros((2, 100), np.float32))
    with pytest.raises(DecodeError, match="not_finite"):
        Listener(lambda: tones, RATE).push([0.0, np.nan])
    with pytest.raises(DecodeError, match="empty"):
        Listener(lambda: tones, RATE, whole=True).finish()
    with pytest.raises(DecodeError, match="0 Hz"):
        Listener(lambda: tones, 0)


@pytest.mark.parametrize("noise_dbfs", [-120.0, -65.0])
def test_recorded_words_are_as_many_utterances_in_order(tones: Loaded, fsdd_dir: Path, noise_dbfs: float) -> None:
    paths = [path for path in sorted(fsdd_dir.iterdir()) if path.stem.endswith("_0")]
    words = [soundfile.read(path, dtype="float32")[0] for path in paths]
    audio, position, spans = say(words, RATE, noise_dbfs=noise_dbfs), 0.8, []
    for word in words:
        spans.append((position, position + len(word) / RATE))
        position = spans[-1][1] + 0.8
    finals = finals_of(listen(Listener(lambda: tones, RATE), audio, RATE))
    assert len(finals) == len(words) == 60
    for final, (start_s, stop_s) in zip(finals, spans, strict=True):
        assert start_s - 0.25 < final.start_s < final.end_s < stop_s + 0.25
        assert final.end_s - final.start_s > 0.2
        assert final.prediction == tones.predictor.predict([cut(audio, final, RATE)])[0]
