"""Serve a registered model over HTTP until stopped."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path

from audioml.params import ServingParams
from audioml.ports import LOCAL, listen, port_of
from audioml.registry.workspace import ModelUser
from audioml.serving.live import LiveModels
from audioml.serving.model import LoadedModel, load_model, wait_for_model

DEFAULT_PORT = 8000
DRAIN_S = 10
"""For requests that are under way when the server is told to stop."""
BACKLOG = 1024
SWITCH_S = 0.001
"""For which a thread may hold the interpreter while others wait for it: the event loop waits for those that predict."""
WEBSOCKET_BYTES = 4_000_000
"""Of a message; more than `StreamLimits` allows, which says what was wrong before the connection ends."""


def serve(
    ctx: ModelUser,
    reference: str | None = None,
    host: str = LOCAL,
    port: int | None = DEFAULT_PORT,
    *,
    params: ServingParams | None = None,
    tokens: Path | None = None,
    on_ready: Callable[[str, LoadedModel], None] | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> None:
    """Serve a model until SIGTERM or Ctrl-C; requests under way are answered first.

    Parameters
    ----------
    ctx
        The workspace, or what stands in for it.
    reference
        A model such as ``digits@champion``; None is the champion of the workspace's model. The server follows the
        alias: see `audioml.serving.live`.
    host, port
        Where to listen; port None takes any free one.
    params
        Limits, budgets, canary and shadow; None takes the defaults.
    tokens
        File of access tokens; None is the one in the folder of state.
    on_ready
        Called with the address and the model just before the first request can be answered.
    on_wait
        Given: a model that does not exist yet, or a tracking server that does not answer, is waited for, and this is
        called with each reason.

    Raises
    ------
    ServiceError
        When the port is in use (before anything is loaded), or the tracking server can't be reached.
    RegistryError
        When there is no such model, alias or version, and none is waited for.
    """
    listener = listen(host, port, "audioml serve")
    try:
        listener.listen(BACKLOG)
        model = wait_for_model(ctx, reference, on_wait) if on_wait else load_model(ctx, reference)
        import uvicorn

        from audioml.serving.app import create_app
        from audioml.serving.logs import RequestLog, log_to_stderr
        from audioml.serving.prediction_log import FOLDER, PredictionLog
        from audioml.serving.tokens import FILE, Tokens

        params = params or ServingParams()
        log_to_stderr()
        log = PredictionLog(ctx.state / FOLDER, params.log_share, params.log_audio, params.log_days)
        models = LiveModels(ctx, model, reference, params)
        app = create_app(
            models,
            params,
            Tokens(tokens or ctx.state / FILE),
            prediction_log=log if params.log_share else None,
            request_log=RequestLog(),
        )
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            # It would look for a proxy's headers at each request, and the client's address is used nowhere.
            proxy_headers=False,
            timeout_graceful_shutdown=DRAIN_S,
            server_header=False,
            ws_max_size=WEBSOCKET_BYTES,
            # Audio hardly gets smaller by it.
            ws_per_message_deflate=False,
        )
        sys.setswitchinterval(SWITCH_S)
        # What is there now stays to the end: looking through it for garbage would hold up answers.
        gc.collect()
        gc.freeze()
        if on_ready:
            on_ready(f"http://{_in_url(host)}:{port_of(listener)}", model)
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        listener.close()


def _in_url(host: str) -> str:
    """Return how a URL names the host: any address is reached as this machine, IPv6 stands in brackets."""
    if host in ("0.0.0.0", "::"):
        return LOCAL
    return f"[{host}]" if ":" in host else host
