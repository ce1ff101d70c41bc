"""The page at `/`, its files below `/static/`, and the model's card at `/model`; nothing comes from other hosts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles

if TYPE_CHECKING:
    from fastapi import FastAPI

FILES = Path(__file__).parent / "page"
STREAM = "/stream"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    # Browsers keep the files and ask each time whether they are still right: a server that is replaced shows at once.
    "Cache-Control": "no-cache",
}


class PageFiles(StaticFiles):
    """The page's files, with the headers that keep it to itself, and ETags."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return the file, or 304 where the browser has it."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(HEADERS)
        return response


def add_page(app: FastAPI, card: Callable[[], dict[str, Any]]) -> None:
    """Add `GET /`, its files and `GET /model` to an application.

    Parameters
    ----------
    app
        The application. The page asks its `/predict`, and its `/stream` where it has one.
    card
        Returns what `GET /model` answers, as `audioml.serving.card.make_card` makes it, of the version that serves now;
        `name` and `version` are enough.
    """
    files = PageFiles(directory=FILES)

    @app.get("/", include_in_schema=False)
    async def page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    @app.get("/model", summary="The model's card: metrics and lineage")
    async def model() -> dict[str, Any]:
        return {**card(), "streams": any(getattr(route, "path", None) == STREAM for route in app.routes)}

    app.mount("/static", files)
