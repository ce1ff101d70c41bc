from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
from fastapi.testclient import TestClient

from audioml.inference.predictor import Predictor
from audioml.serving.logs import RequestLog
from audioml.serving.prediction_log import PredictionLog
from audioml.serving.tokens import FILE, add_token, revoke_token
from tests.serving._served import Saying, serve_app


@pytest.fixture(scope="module")
def client(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    app, _ = serve_app(tmp_path_factory.mktemp("state"), predictor, max_upload_mb=0.1, max_files=3, max_duration_s=2)
    with TestClient(app) as client:
        yield client


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


def test_several_files(client: TestClient, tone_wav: Callable[[float], bytes]) -> None:
    clips = [("file", ("a.wav", tone_wav(200.0))), ("file", ("b.wav", b"no audio")), ("audio", ("c", tone_wav(3000.0)))]
    answer = client.post("/predict", files=clips).json()
    assert [item["file"] for item in answer["predictions"]] == ["a.wav", "b.wav", "c"]
    assert [item.get("label") for item in answer["predictions"]] == ["low", None, "high"]
    assert answer["predictions"][1]["error"]["reason"] == "unreadable"
    assert answer["model"] == {"name": "tones", "version": 3}
    refused = client.post("/predict", files=[clips[0]] * 4)
    assert (refused.status_code, refused.json()["reason"]) == (413, "too_many_files")


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


@pytest.mark.parametrize(
    ("n_samples", "channels", "sample_rate", "form", "reason"),
    [
        (20_000, 1, 8000, "WAV", "too_long"),
        (200_000, 1, 8000, "FLAC", "too_long"),
        (100, 17, 8000, "WAV", "too_many_channels"),
        (100, 1, 400_000, "WAV", "rate_too_high"),
    ],
)
def test_audio_beyond_the_limits(
    client: TestClient, n_samples: int, channels: int, sample_rate: int, form: str, reason: str
) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.zeros((n_samples, channels)), sample_rate, format=form, subtype="PCM_16")
    response = client.post("/predict", content=buffer.getvalue())
    assert (response.status_code, response.json()["reason"]) == (422, reason)


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
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 400, "bad_form"),
        ({"content": b"--b\r\nx", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 422, "no_file"),
        ({"content": b"garbage", "headers": {"Content-Type": "multipart/form-data; boundary=b"}}, 400, "bad_form"),
    ],
)
def test_bad_forms(client: TestClient, body: dict[str, Any], status: int, reason: str) -> None:
    response = client.post("/predict", **body)
    assert (response.status_code, response.json()["reason"]) == (status, reason)


def test_unknown_routes_answer_in_the_same_form(client: TestClient) -> None:
    for response, status, reason in (
        (client.get("/nothing"), 404, "not_found"),
        (client.get("/predict"), 405, "method_not_allowed"),
    ):
        assert (response.status_code, response.json()["reason"]) == (status, reason)
        assert response.json()["request_id"] == response.headers["x-request-id"]
    assert response.headers["allow"] == "POST"


def test_documentation_needs_no_other_host(client: TestClient) -> None:
    page = client.get("/docs").text
    files = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(files) == 3
    assert all(client.get(file).status_code == 200 for file in files)
    assert "//" not in "".join(files)


def test_fault_shows_nothing_of_the_inside(tmp_path: Path) -> None:
    def fail(_: bytes) -> dict[str, Any]:
        raise RuntimeError("/secret/path")

    app, _ = serve_app(tmp_path, Saying(fail))
    with TestClient(app, raise_server_exceptions=False) as client:
        response = client.post("/predict", content=b"x")
    assert (response.status_code, response.json()["reason"]) == (500, "internal")
    assert "secret" not in response.text


def test_prediction_leaves_the_event_loop_free(tmp_path: Path) -> None:
    """Health answers while a prediction waits: it would never end if it held the loop."""
    asked, healthy = threading.Event(), threading.Event()

    def wait(_: bytes) -> dict[str, Any]:
        asked.set()
        assert healthy.wait(60)
        return {"label": "done"}

    app, _ = serve_app(tmp_path, Saying(wait))
    with TestClient(app) as client:
        answers: list[str] = []
        thread = threading.Thread(target=lambda: answers.append(client.post("/predict", content=b"x").json()["label"]))
        thread.start()
        assert asked.wait(60)
        assert client.get("/health/live").json() == {"status": "ok"}
        assert client.get("/health/ready").json()["model"] == {"name": "tones", "version": 3}
        healthy.set()
        thread.join()
    assert answers == ["done"]


def test_an_answer_that_takes_too_long_ends(tmp_path: Path) -> None:
    free = threading.Event()

    def wait(_: bytes) -> dict[str, Any]:
        assert free.wait(60)
        return {"label": "done"}

    app, _ = serve_app(tmp_path, Saying(wait), timeout_s=0.05)
    with TestClient(app) as client:
        response = client.post("/predict", content=b"x")
        free.set()
    assert (response.status_code, response.json()["reason"]) == (504, "timeout")


def test_more_than_can_be_answered_is_refused_at_once(tmp_path: Path) -> None:
    """One thread holds one clip for as long as it likes; one more may wait, and the third is told to come back."""
    asked, free = threading.Event(), threading.Event()

    def wait(_: bytes) -> dict[str, Any]:
        asked.set()
        assert free.wait(60)
        return {"label": "done"}

    app, _ = serve_app(tmp_path, Saying(wait), threads=1, max_wait_ms=1e-6)
    with TestClient(app) as client:
        statuses: list[int] = []
        threads = [
            threading.Thread(target=lambda: statuses.append(client.post("/predict", content=b"x").status_code))
            for _ in range(2)
        ]
        threads[0].start()
        assert asked.wait(60)
        threads[1].start()
        while not app.state.answering.waiting:
            threading.Event().wait(0.01)
        response = client.post("/predict", content=b"x")
        free.set()
        for thread in threads:
            thread.join()
    assert (response.status_code, response.json()["reason"]) == (503, "busy")
    assert int(response.headers["retry-after"]) >= 1
    assert statuses == [200, 200]


def test_uploads_that_wait_have_bounded_room(tmp_path: Path) -> None:
    asked, free = threading.Event(), threading.Event()

    def wait(_: bytes) -> dict[str, Any]:
        asked.set()
        assert free.wait(60)
        return {"label": "done"}

    app, _ = serve_app(tmp_path, Saying(wait), max_upload_mb=0.01, max_waiting_mb=0.015)
    with TestClient(app) as client:
        first = threading.Thread(target=lambda: client.post("/predict", content=bytes(9_000)))
        first.start()
        assert asked.wait(60)
        response = client.post("/predict", content=bytes(9_000))
        free.set()
        first.join()
        assert client.post("/predict", content=bytes(9_000)).status_code == 200
    assert (response.status_code, response.json()["reason"]) == (503, "busy")


def test_tokens_are_asked_for_as_soon_as_there_is_one(tmp_path: Path) -> None:
    app, _ = serve_app(tmp_path, Saying(lambda _: {"label": "done"}))
    with TestClient(app) as client:

        def status(token: str | None, path: str = "/predict") -> int:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            if path != "/predict":
                return client.get(path, headers=headers).status_code
            return client.post(path, content=b"x", headers=headers).status_code

        assert status(None) == 200
        ann, ben = (add_token(tmp_path / FILE, name) for name in ("ann", "ben"))
        assert [status(token) for token in (ann, ben, None, "", "wrong", ann[:-1])] == [200, 200, 401, 401, 401, 401]
        refused = client.post("/predict", content=b"x")
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.json()["reason"] == "unauthorized"
        assert [status(None, path) for path in ("/health/live", "/health/ready", "/", "/metrics")] == [
            200,
            200,
            200,
            401,
        ]
        revoke_token(tmp_path / FILE, "ann")
        assert (status(ann), status(ben)) == (401, 200)
        revoke_token(tmp_path / FILE, "ben")
        assert (status(ben), status(None)) == (401, 401)


@pytest.mark.parametrize(("origins", "allowed"), [([], None), (["https://example.org"], "https://example.org")])
def test_other_origins_are_closed_out_unless_named(tmp_path: Path, origins: list[str], allowed: str | None) -> None:
    app, _ = serve_app(tmp_path, Saying(lambda _: {"label": "done"}), cors_origins=origins)
    with TestClient(app) as client:
        asked = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
        assert client.options("/predict", headers=asked).headers.get("access-control-allow-origin") == allowed
        response = client.post("/predict", content=b"x", headers={"Origin": "https://elsewhere.org"})
        assert "access-control-allow-origin" not in response.headers


def test_metrics_count_requests_and_answers(tmp_path: Path, predictor: Predictor, tone_wav: Any) -> None:
    app, _ = serve_app(tmp_path, predictor)
    with TestClient(app) as client:
        client.post("/predict", content=tone_wav(200.0))
        client.post("/predict", content=b"no audio")
        client.get("/../etc/passwd")
        text = client.get("/metrics").text
    for line in (
        'audioml_requests_total{path="/predict",status="200"} 1.0',
        'audioml_requests_total{path="/predict",status="422"} 1.0',
        'audioml_requests_total{path="other",status="404"} 1.0',
        'audioml_request_seconds_count{path="/predict"} 2.0',
        'audioml_predictions_total{role="primary",version="3"} 1.0',
        'audioml_unreadable_total{reason="unreadable"} 1.0',
        "audioml_audio_seconds_total 0.5",
        'audioml_model_version{name="tones",role="primary"} 3.0',
        'audioml_model_refused{role="primary"} 0.0',
        "audioml_waiting 0.0",
    ):
        assert line in text.splitlines()


def test_log_has_ids_and_no_audio(tmp_path: Path, predictor: Predictor, tone_wav: Any) -> None:
    stream = io.StringIO()
    app, _ = serve_app(tmp_path, predictor, request_log=RequestLog(stream))
    with TestClient(app) as client:
        answer = client.post("/predict", content=tone_wav(200.0)).json()
        client.get("/nothing")
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert first["request_id"] == answer["request_id"]
    assert first | {"method": "POST", "path": "/predict", "status": 200, "version": 3, "recordings": 1} == first
    assert len(json.dumps(first)) < 300
    assert (second["path"], second["status"]) == ("/nothing", 404)


def test_predictions_are_logged(tmp_path: Path, predictor: Predictor, tone_wav: Any) -> None:
    app, _ = serve_app(tmp_path / "state", predictor, PredictionLog(tmp_path / "log"))
    with TestClient(app) as client:
        ids = [client.post("/predict", content=tone_wav(f)).json()["request_id"] for f in (200.0, 3000.0)]
        client.post("/predict", content=b"no audio")
    rows = pd.read_parquet(tmp_path / "log")
    assert sorted(rows["request_id"]) == sorted(ids)
    assert sorted(json.loads(text)["label"] for text in rows["prediction"]) == ["high", "low"]


def test_utterances_of_streams_are_logged(tmp_path: Path, predictor: Predictor, tone_wav: Any) -> None:
    app, _ = serve_app(tmp_path / "state", predictor, PredictionLog(tmp_path / "log"))
    with TestClient(app) as client, client.websocket_connect("/stream?sample_rate=8000&endpoint=false") as stream:
        ready = stream.receive_json()
        stream.send_bytes(tone_wav(200.0)[44:])
        stream.send_json({"type": "end"})
        final = next(message for message in iter(stream.receive_json, None) if message["type"] == "final")
        assert stream.receive_json()["type"] == "end"
        text = client.get("/metrics").text
    assert 'audioml_predictions_total{role="primary",version="3"} 1.0' in text.splitlines()
    (row,) = pd.read_parquet(tmp_path / "log").to_dict("records")
    assert (row["request_id"], row["file"], row["version"]) == (ready["request_id"], final["utterance"], 3)
    assert (row["format"], row["duration_s"], pd.isna(row["sha256"])) == ("STREAM PCM16", 0.5, True)
    assert json.loads(row["prediction"])["label"] == final["label"] == "low"


class TestInvocations:
    """MLflow's protocol; `tests/serving/test_run.py` asks with MLflow's own client."""

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda clips: {"dataframe_split": {"columns": ["audio"], "data": [[clip] for clip in clips]}},
            lambda clips: {"dataframe_split": {"columns": ["id", "audio"], "data": [[0, clip] for clip in clips]}},
            lambda clips: {"dataframe_records": [{"audio": clip} for clip in clips]},
            lambda clips: {"instances": [{"audio": clip} for clip in clips]},
            lambda clips: {"instances": clips},
            lambda clips: {"inputs": {"audio": clips}},
            lambda clips: {"inputs": [[clip] for clip in clips]},
        ],
    )
    def test_forms(self, client: TestClient, predictor: Predictor, tone_wav: Any, wrap: Any) -> None:
        clips = [tone_wav(200.0), tone_wav(3000.0)]
        response = client.post("/invocations", json=wrap([base64.b64encode(clip).decode() for clip in clips]))
        assert response.json() == {"predictions": predictor.predict(clips)}

    def test_parquet(self, client: TestClient, predictor: Predictor, tone_wav: Any) -> None:
        clips = [tone_wav(200.0), tone_wav(3000.0)]
        body = io.BytesIO()
        pd.DataFrame({"audio": clips}).to_parquet(body)
        headers = {"Content-Type": "application/vnd.apache.parquet"}
        response = client.post("/invocations", content=body.getvalue(), headers=headers)
        assert response.json() == {"predictions": predictor.predict(clips)}

    @pytest.mark.parametrize(
        ("body", "kind", "status", "message"),
        [
            (b"", "application/json", 400, "no JSON"),
            (b"[]", "application/json", 400, "exactly one of dataframe_split"),
            (b'{"inputs": [], "instances": []}', "application/json", 400, "exactly one of dataframe_split"),
            (b'{"inputs": 1}', "application/json", 400, "inputs must be a list"),
            (b'{"inputs": [1]}', "application/json", 400, "Row 0: 'audio' must be a recording as base64 text"),
            (b'{"inputs": ["%"]}', "application/json", 400, "Row 0: 'audio' is no base64"),
            (b'{"inputs": ["AAAA"]}', "application/json", 400, "Row 0: not a known audio format"),
            (b'{"inputs": [], "params": {"a": 1}}', "application/json", 400, "take no params"),
            (b'{"dataframe_split": {"columns": ["a"], "data": []}}', "application/json", 400, "no column 'audio'"),
            (b'{"dataframe_split": {"columns": ["audio"], "data": [[]]}}', "application/json", 400, "a list of 1"),
            (b'{"inputs": ["", "", "", ""]}', "application/json", 413, "at most 3"),
            (b"audio\n1", "text/csv", 415, "'text/csv'"),
            (b"{}", "application/json; charset=latin-1", 415, "UTF-8"),
            (b"PAR1", "application/vnd.apache.parquet", 400, "no Parquet file"),
        ],
    )
    def test_bad(self, client: TestClient, body: bytes, kind: str, status: int, message: str) -> None:
        response = client.post("/invocations", content=body, headers={"Content-Type": kind})
        assert (response.status_code, set(response.json())) == (status, {"reason", "detail", "request_id"})
        assert message in response.json()["detail"]

    @pytest.mark.parametrize(
        ("column", "status", "message"),
        [
            ({"sound": [b"x"]}, 400, "no column 'audio'"),
            ({"audio": ["text"]}, 400, "must hold bytes"),
            ({"audio": [b"x", None]}, 400, "must hold bytes in each row"),
            ({"audio": [b"x"] * 4}, 413, "at most 3"),
            ({"audio": [bytes(60_000)] * 2}, 413, "at most 100000"),
        ],
    )
    def test_bad_parquet(self, client: TestClient, column: dict[str, Any], status: int, message: str) -> None:
        body = io.BytesIO()
        pd.DataFrame(column).to_parquet(body)
        headers = {"Content-Type": "application/vnd.apache.parquet"}
        response = client.post("/invocations", content=body.getvalue(), headers=headers)
        assert response.status_code == status
        assert message in response.json()["detail"]


def test_all_waiting_is_answered_before_the_end(tmp_path: Path) -> None:
    """The threads go on until nothing waits."""
    app, _ = serve_app(tmp_path, Saying(lambda clip: {"label": clip.decode()}), threads=1)
    answering = app.state.answering

    async def ask() -> list[str]:
        tasks = [asyncio.create_task(answering.answer("id", [str(i).encode()])) for i in range(20)]
        await asyncio.sleep(0)
        await answering.close()
        return [reply[0].answer.prediction["label"] for reply in await asyncio.gather(*tasks)]

    assert asyncio.run(ask()) == [str(i) for i in range(20)]
