from __future__ import annotations

import base64
import collections
import io
import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import WebSocketTestSession

from audioml.inference.predictor import Predictor
from tests.serving._broken_audio import Breaker, whole_files
from tests.serving._served import serve_app

REQUESTS = 1500
STREAMS = 300
EXAMPLES = 40


@pytest.fixture(scope="module")
def app(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return serve_app(
        tmp_path_factory.mktemp("state"),
        predictor,
        max_upload_mb=1,
    )[0]


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Iterator[TestClient]:
    # A fault of the server is raised here, with its traceback.
    with TestClient(app) as client:
        yield client


def test_whole_recordings_of_all_formats_are_answered(client: TestClient) -> None:
    assert [client.post("/predict", content=data).status_code for data in whole_files()] == [200] * 10


def test_broken_requests_are_refused_and_the_next_is_answered(client: TestClient) -> None:
    breaker, statuses = Breaker(seed=0), collections.Counter[int]()
    for _ in range(REQUESTS):
        request = breaker.request()
        response = client.post(request.path, content=request.body, headers={"Content-Type": request.content_type})
        assert response.status_code < 500, request
        if response.status_code != 200:
            assert set(response.json()) == {"reason", "detail", "request_id"}
        statuses[response.status_code] += 1
    # All kinds of refusals are met, and broken recordings that still hold sound are answered.
    assert set(statuses) == {200, 400, 413, 415, 422}
    assert client.post("/predict", content=whole_files()[0]).status_code == 200


def test_broken_streams_end_with_a_reason_and_the_next_is_heard(client: TestClient) -> None:
    breaker, ends = Breaker(seed=0), collections.Counter[int]()
    for _ in range(STREAMS):
        asked = breaker.stream()
        with client.websocket_connect(f"/stream?{asked.query}") as stream:
            for message in asked.messages:
                stream.send_bytes(message) if isinstance(message, bytes) else stream.send_text(message)
            if asked.messages and asked.messages[-1] == '{"type": "end"}':
                *_, last = _messages_until_close(stream)
                assert last["type"] == "close"
                ends[last["code"]] += 1
    # Ended as asked; wrong kind of data; damaged data; not taken.
    assert set(ends) == {1000, 1003, 1007, 1008}
    with client.websocket_connect("/stream?sample_rate=8000&endpoint=false") as stream:
        stream.send_bytes(bytes(8000))
        stream.send_text('{"type": "end"}')
        assert [message["type"] for message in _messages_until_close(stream)][-3:] == ["final", "end", "close"]


def _messages_until_close(stream: WebSocketTestSession) -> Iterator[dict[str, Any]]:
    while True:
        message = stream.receive()
        if message["type"] == "websocket.close":
            yield {"type": "close", "code": message["code"]}
            return
        content = json.loads(message["text"])
        assert content["type"] != "error" or content["reason"] != "internal", content
        yield content


def test_answers_are_as_the_documentation_says(client: TestClient, app: FastAPI) -> None:
    """Every operation of /openapi.json, with data that fits it and data that does not."""
    # What the document calls binary is a recording.
    recordings = st.sampled_from(whole_files())
    schemathesis.openapi.media_type("audio/*", recordings, aliases=["application/octet-stream"])
    schemathesis.openapi.media_type("application/vnd.apache.parquet", recordings.map(_as_parquet))
    schemathesis.openapi.format("binary", recordings)
    schemathesis.openapi.format("byte", recordings.map(lambda data: base64.b64encode(data).decode()))
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations()]
    assert {operation.path for operation in operations} >= {"/predict", "/invocations", "/health/ready"}
    for operation in operations:
        # Without a body there is nothing that could not fit.
        modes = list(schemathesis.GenerationMode) if operation.body else [schemathesis.GenerationMode.POSITIVE]
        for mode in modes:

            @given(operation.as_strategy(generation_mode=mode))
            @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
            def check(case: schemathesis.Case) -> None:
                case.call_and_validate()

            check()


def _as_parquet(recording: bytes) -> bytes:
    body = io.BytesIO()
    pd.DataFrame({"audio": [recording]}).to_parquet(body)
    return body.getvalue()
