from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from audioml.inference.predictor import Predictor
from audioml.serving.app import create_app
from audioml.store.files import write_json


@pytest.fixture(scope="module")
def predictor(tone_model: tuple[Path, dict[str, Any]]) -> Predictor:
    write_json(tone_model[0].parent / "model.json", tone_model[1])
    return Predictor.load(tone_model[0].parent)


@pytest.fixture(scope="module")
def client(predictor: Predictor) -> TestClient:
    return TestClient(create_app(predictor, "tones", 3, max_upload_mb=0.1))


@pytest.mark.parametrize(("frequency_hz", "label"), [(200.0, "low"), (3000.0, "high")])
@pytest.mark.parametrize("field", ["file", "audio"])
def test_multipart(
    client: TestClient, tone_wav: Callable[[float], bytes], frequency_hz: float, label: str, field: str
) -> None:
    response = client.post("/predict", files={field: ("naïve name.wav", tone_wav(frequency_hz))})
    answer = response.json()
    assert response.status_code == 200
    assert (answer["label"], answer["model"]) == (label, {"name": "tones", "version": 3})
    assert answer["probability"] == answer["probabilities"][label] > 0.99
    assert answer["duration_s"] == 0.5
    assert answer["timing_ms"]["total"] >= answer["timing_ms"]["predict"] > 0
    assert response.headers["x-request-id"] == answer["request_id"]


@pytest.mark.parametrize("content_type", ["audio/wav", "application/octet-stream", "application/x-www-form-urlencoded"])
def test_raw_body(client: TestClient, tone_wav: Callable[[float], bytes], content_type: str) -> None:
    # The last is what `curl --data-binary` sends unless told otherwise.
    response = client.post("/predict", content=tone_wav(200.0), headers={"Content-Type": content_type})
    assert response.json()["label"] == "low"


def test_equal_to_predictor(client: TestClient, predictor: Predictor, fsdd_dir: Path) -> None:
    for path in sorted(fsdd_dir.iterdir())[:3]:
        answer = client.post("/predict", content=path.read_bytes()).json()
        (expected,) = predictor.predict([path.read_bytes()])
        assert {key: answer[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty"), (b"no audio at all", "unreadable"), (bytes(5000), "unreadable")]
)
def test_bad_audio(client: TestClient, content: bytes, reason: str) -> None:
    for response in (client.post("/predict", content=content), client.post("/predict", files={"file": content})):
        answer = response.json()
        assert (response.status_code, answer["reason"]) == (422, reason)
        assert set(answer) == {"reason", "detail", "request_id"}


def test_truncated(client: TestClient, tone_wav: Callable[[float], bytes]) -> None:
    response = client.post("/predict", content=tone_wav(200.0)[:3000])
    assert (response.status_code, response.json()["reason"]) == (422, "truncated")


def test_too_large(client: TestClient) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield bytes(10_000)

    bodies: list[dict[str, Any]] = [
        {"content": bytes(100_001)},
        {"content": chunks()},
        {"files": {"file": bytes(100_001)}},
        {"files": {"file": bytes(200_000)}},
    ]
    for body in bodies:
        response = client.post("/predict", **body)
        assert (response.status_code, response.json()["reason"]) == (413, "too_large")
        assert "0.1 MB" in response.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"files": {"clip": b"x"}}, 422, "no_file"),
        ({"data": {"file": "text"}, "files": {"other": b"x"}}, 422, "no_file"),
        ({"files": [("file", b"x"), ("file", b"y")]}, 400, "bad_form"),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "bad_form"),
        ({"content": b"--b\r\nx", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 422, "no_file"),
        ({"content": b"garbage", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400, "bad_form"),
    ],
)
def test_bad_forms(client: TestClient, body: dict[str, Any], status: int, reason: str) -> None:
    response = client.post("/predict", **body)
    assert (response.status_code, response.json()["reason"]) == (status, reason)


def test_fault_shows_nothing_of_the_inside() -> None:
    class Broken:
        def predict(self, clips: Sequence[bytes]) -> list[dict[str, Any]]:
            raise RuntimeError("/secret/path")

    client = TestClient(create_app(Broken(), "tones", 3), raise_server_exceptions=False)
    response = client.post("/predict", content=b"x")
    assert (response.status_code, response.json()["reason"]) == (500, "internal")
    assert "secret" not in response.text


def test_prediction_leaves_the_event_loop_free(tone_wav: Callable[[float], bytes]) -> None:
    """Health answers while a prediction waits: it would never end if it held the loop."""
    asked, healthy = threading.Event(), threading.Event()

    class Waiting:
        def predict(self, clips: Sequence[bytes]) -> list[dict[str, Any]]:
            asked.set()
            assert healthy.wait(60)
            return [{"label": "done"}]

    with TestClient(create_app(Waiting(), "tones", 3)) as client:
        answers: list[str] = []
        thread = threading.Thread(
            target=lambda: answers.append(client.post("/predict", content=tone_wav(200.0)).json()["label"])
        )
        thread.start()
        assert asked.wait(60)
        assert client.get("/health").json() == {"status": "ok", "model": {"name": "tones", "version": 3}}
        healthy.set()
        thread.join()
    assert answers == ["done"]


def test_documentation(client: TestClient) -> None:
    content = client.get("/openapi.json").json()["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "audio/*", "application/octet-stream"}
