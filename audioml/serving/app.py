"""The HTTP interface of one model: POST /predict with audio, WS /stream, GET /health."""

from __future__ import annotations

import logging
import time
import uuid
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, JSONResponse

import audioml
from audioml.audio.decode import UNKNOWN_SAMPLES, decode_with_info, probe
from audioml.errors import DecodeError
from audioml.serving.model import AudioPredictor, LoadedModel
from audioml.serving.page import render_page
from audioml.serving.stream import add_stream
from audioml.serving.upload import UploadError, read_upload
from audioml.units import samples_to_seconds

if TYPE_CHECKING:
    from audioml.inference.streaming import StreamingPredictor

MAX_UPLOAD_MB = 25.0
REQUEST_ID = "X-Request-ID"
UNPROCESSABLE = 422

log = logging.getLogger(__name__)

BINARY = {"schema": {"type": "string", "format": "binary"}}
FORM = {"type": "object", "required": ["file"], "properties": {"file": BINARY["schema"]}}
REQUEST_BODY = {
    "required": True,
    "content": {"multipart/form-data": {"schema": FORM}, "audio/*": BINARY, "application/octet-stream": BINARY},
}


def create_app(
    predictor: AudioPredictor,
    model_name: str,
    version: int,
    max_upload_mb: float = MAX_UPLOAD_MB,
    *,
    streaming: StreamingPredictor | None = None,
) -> FastAPI:
    """Return the application that answers with one model's predictions.

    Parameters
    ----------
    predictor
        Called in worker threads, with one clip at a time.
    model_name, version
        Named in each answer.
    max_upload_mb
        Larger uploads are refused with 413, in megabytes of 10^6 bytes.
    streaming
        What hears live streams part by part, if the model can.

    Every error is JSON with `reason` (one word), `detail` and `request_id`, and shows nothing of the server's inside.
    """
    app = FastAPI(title=model_name, version=str(version), description=f"audioml {audioml.__version__}")
    model = {"name": model_name, "version": version}
    max_bytes = int(max_upload_mb * 1e6)

    @app.post("/predict", summary="Predict on one audio file", openapi_extra={"requestBody": REQUEST_BODY})
    async def predict(request: Request) -> JSONResponse:
        start = time.perf_counter()
        request_id = request.state.request_id = uuid.uuid4().hex
        try:
            audio = await read_upload(request, max_bytes)
            received = time.perf_counter()
            duration_s, prediction = await run_in_threadpool(_predict_one, predictor, audio)
        except UploadError as error:
            return _refuse(error.status, error.reason, error.detail, request_id)
        except DecodeError as error:
            return _refuse(UNPROCESSABLE, error.reason, error.detail, request_id)
        end = time.perf_counter()
        timing_ms = {"receive": _ms(start, received), "predict": _ms(received, end), "total": _ms(start, end)}
        answer = {"model": model, "request_id": request_id, "duration_s": duration_s, "timing_ms": timing_ms}
        return JSONResponse(prediction | answer, headers={REQUEST_ID: request_id})

    loaded = LoadedModel(predictor, model_name, version, streaming)
    add_stream(app, lambda: loaded)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> JSONResponse:
        request_id = getattr(request.state, "request_id", uuid.uuid4().hex)
        log.error("request %s failed; its traceback follows", request_id)
        return _refuse(500, "internal", "The server failed; its log tells why, by this request_id.", request_id)

    @app.get("/health", summary="Is the model loaded")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "model": model}

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> HTMLResponse:
        return HTMLResponse(render_page(model_name, version, str(request.base_url)))

    return app


def _predict_one(predictor: AudioPredictor, audio: bytes) -> tuple[float, dict[str, Any]]:
    prediction = predictor.predict([audio])[0]
    info = probe(audio)
    if info.n_samples >= UNKNOWN_SAMPLES:
        info = decode_with_info(audio)[1]
    return round(samples_to_seconds(info.n_samples, info.sample_rate), 6), prediction


def _refuse(status: int, reason: str, detail: str, request_id: str) -> JSONResponse:
    content = {"reason": reason, "detail": detail, "request_id": request_id}
    return JSONResponse(content, status_code=status, headers={REQUEST_ID: request_id})


def _ms(start: float, end: float) -> float:
    return round(1000 * (end - start), 3)
