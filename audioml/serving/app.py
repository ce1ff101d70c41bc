"""The HTTP interface of the served models."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

import audioml
from audioml.errors import DecodeError
from audioml.params import ServingParams
from audioml.serving.answering import Answering, Reply
from audioml.serving.gate import DOCS_FILES, Endpoint, Gate
from audioml.serving.invocations import PARQUET, read_invocation
from audioml.serving.live import LiveModels
from audioml.serving.logs import RequestLog
from audioml.serving.metrics import ServerMetrics
from audioml.serving.model import LoadedModel
from audioml.serving.page import add_page
from audioml.serving.prediction_log import PredictionLog
from audioml.serving.problems import RefusalError, describe_responses
from audioml.serving.schemas import INVOCATIONS_BODY, PREDICT_BODY, Predicted, Scored
from audioml.serving.stream import add_stream
from audioml.serving.stream_request import StreamLimits
from audioml.serving.tokens import Tokens
from audioml.serving.upload import Upload, read_body, read_uploads

UNPROCESSABLE = 422
SMALL_BYTES = 1_000_000
"""Of JSON that is read on the event loop: sooner done than handed to a thread."""
BASE64_GROWTH = 1.4
"""Of bytes that are sent as base64 in JSON."""

log = logging.getLogger(__name__)


def create_app(
    models: LiveModels,
    params: ServingParams,
    tokens: Tokens,
    prediction_log: PredictionLog | None = None,
    request_log: RequestLog | None = None,
) -> FastAPI:
    """Return the application that answers with what serves at the moment.

    Parameters
    ----------
    models
        The versions that serve; the application follows the registry for as long as it runs.
    params
        Limits, budgets and access.
    tokens
        Who may ask.
    prediction_log
        Where answers are written; None writes none.
    request_log
        Where a line is written for each request; None writes none.

    Every answer that is none is JSON with `reason` (one word), `detail` and `request_id`, and shows nothing of the
    server's inside.
    """
    metrics = ServerMetrics()
    threads = params.threads or len(os.sched_getaffinity(0))
    answering = Answering(models, params, metrics, prediction_log, threads)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        models.start()
        yield
        await asyncio.to_thread(models.close)
        await answering.close()
        if request_log:
            request_log.close()

    primary = models.primary
    # Its /docs asks no other host for anything.
    app: FastAPI = FastAPIOffline(
        title=primary.name,
        version=audioml.__version__,
        description="Served by audioml.",
        lifespan=lifespan,
        redoc_url=None,
        static_url=DOCS_FILES,
        favicon_url="static/icon.svg",
    )
    app.state.answering = answering
    max_bytes = int(params.max_upload_mb * 1e6)

    async def predict(request: Request) -> Response:
        start = time.perf_counter()
        uploads = await read_uploads(request, max_bytes, params.max_files)
        received = request.state.received = time.perf_counter()
        replies = await answering.answer(request.state.request_id, [upload.audio for upload in uploads])
        if len(uploads) == 1 and isinstance(error := replies[0].answer, DecodeError):
            raise RefusalError(UNPROCESSABLE, error.reason, error.detail)
        end = time.perf_counter()
        timing_ms = {"receive": _ms(start, received), "predict": _ms(received, end), "total": _ms(start, end)}
        return _json(_describe(request, uploads, replies) | {"timing_ms": timing_ms})

    async def invocations(request: Request) -> Response:
        body = await read_body(request, int(BASE64_GROWTH * max_bytes))
        asked = request.headers.get("content-type", ""), body, params.max_files, max_bytes
        if len(body) < SMALL_BYTES and not asked[0].startswith(PARQUET):
            recordings = read_invocation(*asked)
        else:
            recordings = await asyncio.to_thread(read_invocation, *asked)
        request.state.received = time.perf_counter()
        replies = await answering.answer(request.state.request_id, recordings)
        predictions = []
        for i, reply in enumerate(replies):
            if isinstance(reply.answer, DecodeError):
                raise RefusalError(400, reply.answer.reason, f"Row {i}: {reply.answer.detail}")
            predictions.append(reply.answer.prediction)
        if replies:
            _note(request, replies)
        return _json({"predictions": predictions})

    quick = {
        "/predict": _in_time(predict, params.timeout_s),
        "/invocations": _in_time(invocations, params.timeout_s),
    }
    # The gate has them answer; these routes are for the interface's description.
    app.post(
        "/predict",
        summary="Predict on audio files",
        openapi_extra={"requestBody": PREDICT_BODY},
        response_model=Predicted,
        responses=describe_responses(400, 401, 408, 413, 422, 500, 503, 504),
    )(quick["/predict"])
    app.post(
        "/invocations",
        summary="Predict by MLflow's scoring protocol",
        openapi_extra={"requestBody": INVOCATIONS_BODY},
        response_model=Scored,
        responses=describe_responses(400, 401, 408, 413, 415, 500, 503, 504),
    )(quick["/invocations"])

    @app.get("/health/live", summary="Does the server run")
    @app.get("/ping", include_in_schema=False)
    async def live() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/health/ready", summary="Is a model loaded, and which")
    @app.get("/health", include_in_schema=False)
    async def ready() -> dict[str, Any]:
        refused = {
            role: {"version": refusal.version, "reason": refusal.reason} for role, refusal in models.refused.items()
        }
        serving = {role: _name(model) for role, model in models.models.items()}
        return {"status": "ok", "model": _name(models.primary), "serving": serving, "refused": refused}

    @app.get("/version", include_in_schema=False)
    async def version() -> PlainTextResponse:
        return PlainTextResponse(audioml.__version__)

    @app.get("/metrics", include_in_schema=False)
    async def read_metrics() -> Response:
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)

    streams = add_stream(
        app,
        lambda: models.choose()[1],
        StreamLimits(max_streams=params.max_streams, max_duration_s=params.max_stream_s),
        origins=params.cors_origins,
        allows=tokens.allow,
        on_final=answering.note_utterance,
    )
    metrics.watch_value("audioml_streams", "Live streams that are open", lambda: streams.n_open)
    add_page(app, lambda: models.primary.card or _name(models.primary))
    _answer_problems(app)
    paths = frozenset(route.path for route in app.routes if hasattr(route, "path"))
    app.add_middleware(
        Gate,
        tokens=tokens,
        metrics=metrics,
        paths=paths,
        max_waiting_bytes=int(params.max_waiting_mb * 1e6),
        max_body_bytes=max_bytes,
        quick=quick,
        log=request_log,
    )
    if params.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=params.cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return app


def _answer_problems(app: FastAPI) -> None:
    """Have whatever goes wrong answered in one form."""

    @app.exception_handler(RefusalError)
    async def refuse(request: Request, problem: RefusalError) -> JSONResponse:
        return problem.response(request.state.request_id)

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> JSONResponse:
        reason = str(error.detail).lower().replace(" ", "_")
        response = RefusalError(
            error.status_code, reason, f"{request.method} {request.url.path}: {error.detail}."
        ).response(request.state.request_id)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> JSONResponse:
        log.error("request %s failed; its traceback follows", request.state.request_id)
        detail = "The server failed; its log tells why, by this request_id."
        return RefusalError(500, "internal", detail).response(request.state.request_id)


def _in_time(endpoint: Endpoint, seconds: float) -> Endpoint:
    """Return the endpoint with an end to its time, from a request's first byte to its answer."""

    async def answer(request: Request) -> Response:
        try:
            async with asyncio.timeout(seconds):
                return await endpoint(request)
        except TimeoutError:
            if hasattr(request.state, "received"):
                detail = f"The answer takes longer than {seconds:g} s, the limit of this server."
                raise RefusalError(504, "timeout", detail) from None
            detail = f"The request did not arrive within {seconds:g} s."
            raise RefusalError(408, "timeout", detail) from None

    answer.__name__ = endpoint.__name__
    return answer


def _json(content: dict[str, Any]) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def _describe(request: Request, uploads: list[Upload], replies: list[Reply]) -> dict[str, Any]:
    """Return the body of an answer: flat for one recording, a list for several."""
    said = {"model": _note(request, replies), "request_id": request.state.request_id}
    if len(replies) == 1:
        return _content(replies[0]) | said
    return {
        "predictions": [
            {"file": upload.name, **_content(reply)} for upload, reply in zip(uploads, replies, strict=True)
        ]
    } | said


def _content(reply: Reply) -> dict[str, Any]:
    if isinstance(reply.answer, DecodeError):
        return {"error": {"reason": reply.answer.reason, "detail": reply.answer.detail}}
    return reply.answer.prediction | {"duration_s": reply.duration_s}


def _note(request: Request, replies: list[Reply]) -> dict[str, Any]:
    """Return the model that answered, and have the log's line name it."""
    model = _name(replies[0].model)
    request.state.log = {"model": model["name"], "version": model["version"], "recordings": len(replies)}
    return model


def _name(model: LoadedModel) -> dict[str, Any]:
    return {"name": model.name, "version": model.version}


def _ms(start: float, end: float) -> float:
    return round(1000 * (end - start), 3)
