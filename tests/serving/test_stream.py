from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import WebSocketTestSession
from starlette.websockets import WebSocketDisconnect
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from audioml.inference.activity import EndPointing
from audioml.inference.predictor import Predictor
from audioml.inference.streaming import StreamingPredictor
from audioml.ports import listen, port_of
from audioml.serving.model import LoadedModel
from audioml.serving.stream import Streams, add_stream
from audioml.serving.stream_request import StreamLimits
from audioml.store.files import write_json

from .._streaming_models import FEATURES, MODELS, as_wav, assert_same, export, make_sound

RATE = 8000
END = '{"type": "end"}'


@pytest.fixture(scope="module")
def tones(tone_model: tuple[Path, dict[str, Any]]) -> LoadedModel:
    write_json(tone_model[0].parent / "model.json", tone_model[1])
    return LoadedModel(Predictor.load(tone_model[0].parent), "tones", 3)


@pytest.fixture(scope="module")
def client(tones: LoadedModel) -> TestClient:
    return make_client(lambda: tones)[0]


def make_client(
    current: Callable[[], LoadedModel],
    limits: StreamLimits | None = None,
    end_pointing: EndPointing | None = None,
    origins: Sequence[str] = (),
    allows: Callable[[str | None], bool] | None = None,
) -> tuple[TestClient, Streams]:
    app = FastAPI()
    return TestClient(app), add_stream(app, current, limits, end_pointing, origins, allows)


def as_pcm(audio: np.ndarray) -> np.ndarray:
    return np.round(audio * 32767).astype("<i2")


def say(frequencies_hz: Sequence[float], rate: int = RATE) -> np.ndarray:
    """Tones of 0.5 s between pauses of 0.8 s; int16."""
    pause, at = np.zeros(round(0.8 * rate)), np.arange(rate // 2)
    tones = [part for hz in frequencies_hz for part in (0.3 * np.sin(2 * np.pi * hz * at / rate), pause)]
    return as_pcm(np.concatenate([pause, *tones]))


def stream(client: TestClient, query: str, messages: Sequence[bytes | str]) -> tuple[list[dict[str, Any]], int]:
    """Return what comes back, and the code of the end."""
    with client.websocket_connect(f"/stream?{query}") as connection:
        for message in messages:
            send(connection, message)
        return receive_all(connection)


def send(connection: WebSocketTestSession, message: bytes | str) -> None:
    (connection.send_text if isinstance(message, str) else connection.send_bytes)(message)  # type: ignore[operator]


def receive_all(connection: WebSocketTestSession) -> tuple[list[dict[str, Any]], int]:
    events: list[dict[str, Any]] = []
    try:
        while True:
            events.append(json.loads(connection.receive_text()))
    except WebSocketDisconnect as end:
        return events, end.code


def cut_messages(samples: np.ndarray, size: int) -> list[bytes | str]:
    return [*(samples[start : start + size].tobytes() for start in range(0, len(samples), size)), END]


@pytest.mark.parametrize("size", [80, 160, 12345, 10**6])
def test_a_stream_from_ready_to_end(client: TestClient, tones: LoadedModel, size: int) -> None:
    samples = say([200, 3000])
    events, code = stream(client, f"sample_rate={RATE}", cut_messages(samples, size))
    ready, *middle, end = events
    assert ready == {
        "type": "ready",
        "request_id": ready["request_id"],
        "model": {"name": "tones", "version": 3},
        "sample_rate": RATE,
        "mode": "utterances",
    }
    assert (end, code) == ({"type": "end", "duration_s": len(samples) / RATE}, 1000)
    finals = [event for event in middle if event["type"] == "final"]
    assert [(event["utterance"], event["label"]) for event in finals] == [(1, "low"), (2, "high")]
    for event in finals:
        cut = samples[round(event["start_s"] * RATE) : round(event["end_s"] * RATE)]
        (expected,) = tones.predictor.predict([as_wav(cut.astype(np.float32) / 32768, RATE)])
        assert {key: event[key] for key in expected} == expected
        assert event["model"] == {"name": "tones", "version": 3}
        assert event["timing_ms"]["total"] >= event["timing_ms"]["predict"] > 0
    for event in middle:
        if event["type"] == "partial":
            assert set(event) == {"type", "utterance", "start_s", "heard_s", "label", "probability", "probabilities"}
    assert {event["type"] for event in middle} <= {"partial", "final"}


@pytest.mark.parametrize("case", MODELS)
def test_the_last_answers_of_a_streaming_model_are_those_offline(case: str, tmp_path: Path) -> None:
    """Text, words and times are equal; confidences are within 1e-3."""
    export(case, tmp_path)
    predictor = Predictor.load(tmp_path)
    model = LoadedModel(predictor, "words", 1, streaming=StreamingPredictor.load(predictor, tmp_path))
    rate = FEATURES.sample_rate
    pause = np.zeros(rate, np.float32)
    samples = as_pcm(np.concatenate([pause, make_sound(rate), pause, make_sound(2 * rate, 1), pause]))
    for endpoint, n_finals in (("true", 2), ("false", 1)):
        query = f"sample_rate={rate}&endpoint={endpoint}"
        events, code = stream(make_client(lambda: model)[0], query, cut_messages(samples, 320))
        assert (code, events[0]["mode"]) == (1000, "streaming")
        finals = [event for event in events if event["type"] == "final"]
        assert len(finals) == n_finals
        for event in finals:
            cut = samples[round(event["start_s"] * rate) : round(event["end_s"] * rate)]
            assert_same(event, predictor.predict([as_wav(cut.astype(np.float32) / 32768, rate)])[0])
        assert len(finals[-1]["text"]) > 2


def test_opus_packets_are_heard(client: TestClient, tmp_path: Path) -> None:
    path = tmp_path / "tones.opus"
    soundfile.write(path, say([200, 3000], 48000), 48000, format="OGG", subtype="OPUS")
    data, packets, packet, position = path.read_bytes(), list[bytes](), b"", 0
    while position < len(data):
        lacing = data[position + 27 : position + 27 + data[position + 26]]
        position += 27 + len(lacing)
        for size in lacing:
            packet += data[position : position + size]
            position += size
            if size < 255:
                packets.append(packet)
                packet = b""
    events, code = stream(client, "format=opus&sample_rate=16000", [*packets[2:], END])
    assert code == 1000
    assert events[0]["sample_rate"] == 16000
    assert [event["label"] for event in events if event["type"] == "final"] == ["low", "high"]
    assert events[-1]["duration_s"] == pytest.approx(3.4, abs=0.05)


@pytest.mark.parametrize(
    ("query", "messages", "code", "reason"),
    [
        ("format=mp3", [], 1008, "bad_query"),
        ("sample_rate=0", [], 1008, "bad_query"),
        ("", [b"123"], 1003, "odd_bytes"),
        ("", ["hello"], 1007, "bad_json"),
        ("", ["[" * 100_000], 1007, "bad_json"),
        ("", ['{"type": "stop"}'], 1003, "unknown_message"),
        ("", ["17"], 1003, "unknown_message"),
        ("", [bytes(2_000_002)], 1009, "too_large"),
        ("format=opus", [b""], 1007, "unreadable"),
        ("format=opus", [b"\x03\x00"], 1007, "unreadable"),
        ("endpoint=false", [END], 1007, "empty"),
        ("endpoint=false&sample_rate=4000", [bytes(2 * 4000 * 31)], 1007, "too_long"),
    ],
)
def test_faults_are_told_before_the_close(
    client: TestClient, query: str, messages: list[bytes | str], code: int, reason: str
) -> None:
    events, found = stream(client, query, messages)
    error = events[-1]
    assert (found, error["type"], error["reason"]) == (code, "error", reason)
    assert set(error) == {"type", "reason", "detail", "request_id"}
    assert len(error["request_id"]) == 32


def test_streams_have_limits(tones: LoadedModel) -> None:
    limits = StreamLimits(max_streams=2, max_duration_s=1.0, idle_timeout_s=0.05)
    client, streams = make_client(lambda: tones, limits)
    with client:
        with client.websocket_connect("/stream") as first, client.websocket_connect("/stream") as second:
            first.receive_text()
            second.receive_text()
            assert streams.n_open == 2
            events, code = stream(client, "", [])
            assert (events[0]["reason"], code) == ("busy", 1013)
        events, code = stream(client, "", [bytes(32002)])
        assert (events[-1]["reason"], code) == ("too_long", 1008)
        events, code = stream(client, "", [])
        assert (events[-1]["reason"], code) == ("idle", 1008)
        assert streams.n_open == 0


def test_pages_of_other_hosts_open_no_stream(tones: LoadedModel) -> None:
    client, _ = make_client(lambda: tones, origins=("https://known.example",))
    for origin, opens in (("http://testserver", True), ("https://known.example", True), ("http://evil", False)):
        with client.websocket_connect("/stream", headers={"Origin": origin}) as connection:
            events, _ = [json.loads(connection.receive_text())], send(connection, END)
        assert events[0].get("reason") == (None if opens else "foreign_origin")


def test_tokens_come_in_a_header_or_a_subprotocol(tones: LoadedModel) -> None:
    client, _ = make_client(lambda: tones, allows=lambda token: token == "secret")
    for options, opens in (
        ({"headers": {"Authorization": "Bearer secret"}}, True),
        ({"headers": {"Authorization": "Bearer other"}}, False),
        ({"subprotocols": ["audioml", "bearer.secret"]}, True),
        ({"subprotocols": ["audioml", "bearer.other"]}, False),
        ({}, False),
    ):
        with client.websocket_connect("/stream", **options) as connection:  # type: ignore[arg-type]
            events, _ = [json.loads(connection.receive_text())], send(connection, END)
            assert connection.accepted_subprotocol == ("audioml" if "subprotocols" in options else None)
        assert events[0].get("reason") == (None if opens else "unauthorized")


def test_a_fault_shows_nothing_of_the_inside(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        def predict(self, clips: Sequence[bytes]) -> list[dict[str, Any]]:
            raise NotImplementedError

        def predict_audio(self, audio: Any, sample_rate: int) -> dict[str, Any]:
            raise RuntimeError("/secret/path")

    client, streams = make_client(lambda: LoadedModel(Broken(), "tones", 3))
    events, code = stream(client, f"sample_rate={RATE}", cut_messages(say([200]), 160))
    assert (events[-1]["reason"], code) == ("internal", 1011)
    assert "secret" not in json.dumps(events)
    assert events[-1]["request_id"] in caplog.text
    assert streams.n_open == 0


def test_a_new_version_answers_the_next_utterance(tones: LoadedModel) -> None:
    versions = [tones, LoadedModel(tones.predictor, "tones", 4)]
    client, _ = make_client(lambda: versions[0])
    samples = say([200, 3000])
    middle = round(1.0 * RATE)
    with client.websocket_connect(f"/stream?sample_rate={RATE}") as connection:
        connection.receive_text()
        connection.send_bytes(samples[:middle].tobytes())
        # It is in the first utterance when this comes.
        assert json.loads(connection.receive_text())["type"] == "partial"
        versions.reverse()
        connection.send_bytes(samples[middle:].tobytes())
        connection.send_text(END)
        finals = [event for event in receive_all(connection)[0] if event["type"] == "final"]
    assert [event["model"]["version"] for event in finals] == [3, 4]


def test_the_network_leaves_the_event_loop_free() -> None:
    """A second stream is answered while the first one's model waits: it would never end if that held the loop."""
    asked, free = threading.Event(), threading.Event()

    class Waiting:
        def predict(self, clips: Sequence[bytes]) -> list[dict[str, Any]]:
            raise NotImplementedError

        def predict_audio(self, audio: Any, sample_rate: int) -> dict[str, Any]:
            asked.set()
            assert free.wait(60)
            return {"label": "done"}

    client, _ = make_client(lambda: LoadedModel(Waiting(), "tones", 3))
    with client, client.websocket_connect(f"/stream?sample_rate={RATE}") as first:
        for message in cut_messages(say([200]), 160):
            send(first, message)
        assert asked.wait(60)
        events, code = stream(client, "", [bytes(32000), END])
        assert (events[-1], code) == ({"type": "end", "duration_s": 1.0}, 1000)
        free.set()
        assert receive_all(first)[0][-2]["label"] == "done"


def test_a_client_that_leaves_frees_its_place(tones: LoadedModel) -> None:
    client, streams = make_client(lambda: tones, StreamLimits(max_streams=1))
    with client:
        for _ in range(5):
            with client.websocket_connect(f"/stream?sample_rate={RATE}") as connection:
                assert json.loads(connection.receive_text())["type"] == "ready"
                connection.send_bytes(say([200])[:9000].tobytes())
        assert streams.n_open == 0


def test_a_server_that_stops_says_so(tones: LoadedModel) -> None:
    app = FastAPI()
    streams = add_stream(app, lambda: tones)
    listener = listen("127.0.0.1", None, "test")
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=60))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with connect(f"ws://127.0.0.1:{port_of(listener)}/stream?sample_rate={RATE}") as connection:
            for message in cut_messages(say([200]), 160)[:-1]:
                connection.send(message)
            while json.loads(connection.recv(60))["type"] != "final":
                pass
            server.should_exit = True
            with pytest.raises(ConnectionClosed) as closed:
                connection.recv(60)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
    assert streams.n_open == 0


messages = st.one_of(
    st.binary(max_size=400), st.just(END), st.text(max_size=20), st.binary(max_size=200).map(lambda b: b + b)
)
queries = st.fixed_dictionaries(
    {},
    optional={
        "sample_rate": st.one_of(st.integers(-1, 200_000).map(str), st.sampled_from(["16000", "48000", "nan", ""])),
        "format": st.sampled_from(["pcm16", "opus", "wav"]),
        "endpoint": st.sampled_from(["true", "false", "maybe"]),
    },
)


@settings(max_examples=60, deadline=None)
@given(queries, st.lists(messages, max_size=6))
def test_whatever_comes_ends_in_an_error_or_the_end(
    client: TestClient, query: dict[str, str], sent: list[bytes | str]
) -> None:
    text = "&".join(f"{key}={value}" for key, value in query.items())
    events, code = stream(client, text, [*sent, END])
    assert events[-1]["type"] in ("end", "error")
    assert code in (1000, 1003, 1007, 1008, 1009)
    assert events[-1].get("reason") != "internal"
