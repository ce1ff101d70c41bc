"""The Airflow plugin: an entry in the navigation, and audioml's pages in the API server.

Every process of Airflow loads plugins; only the API server needs the pages, so they are made with the first request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from typing import Any
from urllib.parse import quote, urlsplit

from airflow.plugins_manager import AirflowPlugin

from audioml.orchestration.airflow.links import PREFIX
from audioml.orchestration.airflow.messages import base_url

Message = MutableMapping[str, Any]
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24" fill="none" stroke-linecap="round">'
    '<path d="M3 10v4M7.5 6v12M12 3v18M16.5 7v10M21 10v4" stroke="{rim}" stroke-width="3.8"/>'
    '<path d="M3 10v4M7.5 6v12M12 3v18M16.5 7v10M21 10v4" stroke="{bars}" stroke-width="2"/></svg>'
)
"""Bars with a rim, because the entry that is open has a dark ground in the light theme too."""


@cache
def _pages() -> Any:
    from audioml.orchestration.airflow.pages import create_pages

    return create_pages()


async def serve_pages(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Answer a request with audioml's pages; an ASGI application."""
    await _pages()(scope, receive, send)


def _icon(bars: str, rim: str) -> str:
    return f"data:image/svg+xml,{quote(ICON.format(bars=bars, rim=rim))}"


class AudiomlPlugin(AirflowPlugin):  # type: ignore[misc]
    """Leads from Airflow to MLflow, the Data Docs, the reports and the model server of each workspace.

    The page is shown within Airflow's own (`url_route`): an entry that is a mere link is drawn by Airflow 3.3.2 as a
    button that does nothing.
    """

    name = "audioml"
    fastapi_apps = [{"app": serve_pages, "url_prefix": PREFIX, "name": "audioml"}]  # noqa: RUF012, Airflow's interface
    external_views = [  # noqa: RUF012
        {
            "name": "audioml",
            "href": f"{urlsplit(base_url()).path}{PREFIX}/",
            "url_route": "audioml",
            "destination": "nav",
            "nav_top_level": True,
            "icon": _icon("#1b4d7a", "#e3edf8"),
            "icon_dark_mode": _icon("#9cc7ee", "#16202b"),
        }
    ]
