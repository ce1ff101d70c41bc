"""Serve a registered model over HTTP until stopped."""

from __future__ import annotations

from collections.abc import Callable

from audioml.ports import LOCAL, listen, port_of
from audioml.registry.workspace import ModelUser
from audioml.serving.model import LoadedModel, load_model, wait_for_model

DEFAULT_PORT = 8000
SHUTDOWN_TIMEOUT_S = 10
WEBSOCKET_BYTES = 4_000_000
"""Of a message; more than `StreamLimits` allows, which says what was wrong before the connection ends."""


def serve(
    ctx: ModelUser,
    reference: str | None = None,
    host: str = LOCAL,
    port: int | None = DEFAULT_PORT,
    *,
    max_upload_mb: float | None = None,
    on_ready: Callable[[str, LoadedModel], None] | None = None,
    on_wait: Callable[[str], None] | None = None,
) -> None:
    """Serve a model until SIGTERM or Ctrl-C.

    Parameters
    ----------
    ctx
        The workspace, or what stands in for it.
    reference
        A model such as ``digits@champion``; None is the champion of the workspace's model.
    host, port
        Where to listen; port None takes any free one.
    max_upload_mb
        Larger uploads are refused; None takes the default of `create_app`.
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
        model = wait_for_model(ctx, reference, on_wait) if on_wait else load_model(ctx, reference)
        import uvicorn

        from audioml.serving.app import MAX_UPLOAD_MB, create_app

        limit_mb = max_upload_mb or MAX_UPLOAD_MB
        app = create_app(model.predictor, model.name, model.version, limit_mb, streaming=model.streaming)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
            ws_max_size=WEBSOCKET_BYTES,
            # Audio hardly gets smaller by it.
            ws_per_message_deflate=False,
        )
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
