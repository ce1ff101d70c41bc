"""Chromium on a page that is served from this process, with what it asked for and complained of."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from playwright.sync_api import Page, sync_playwright

from audioml.ports import LOCAL, listen, port_of

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"),
    *("--disable-sync", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
    "--autoplay-policy=no-user-gesture-required",
]
REFUSED = "Failed to load resource: the server responded with a status of"
"""What Chromium's console says of each answer that is an error, whatever the page does with it."""


@dataclass
class Visit:
    """An open page."""

    page: Page
    address: str
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Fail where the page asked another host, or complained."""
        own = (f"{self.address}/", self.address.replace("http", "ws") + "/")
        assert [url for url in self.requests if not url.startswith(own)] == []
        assert [text for text in self.complaints if not text.startswith(REFUSED)] == []

    def answer(self, text: str) -> str:
        """Wait until the answer has this text, and return all of it."""
        body = self.page.locator("#answer-body", has_text=text)
        body.wait_for()
        return body.inner_text().replace("\u00a0", " ")


@contextmanager
def visit(app: FastAPI, microphone: Path | None = None, **options: Any) -> Iterator[Visit]:
    """Serve an application and open its page; `microphone` is a WAV file that is heard over and over.

    Options are those of a browser's context, such as its viewport.
    """
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    flags = [*FLAGS, *([f"--use-file-for-fake-audio-capture={microphone}"] if microphone else [])]
    with _serve(app) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page(permissions=["microphone"] if microphone else [], **options)
        opened = Visit(page, address)
        page.on("request", lambda request: opened.requests.append(request.url))
        page.on("websocket", lambda socket: opened.requests.append(socket.url))
        page.on("console", lambda message: opened.complaints.append(message.text))
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.goto(f"{address}/")
        yield opened
        browser.close()


@contextmanager
def _serve(app: FastAPI) -> Iterator[str]:
    listener = listen(LOCAL, None, "test")
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://{LOCAL}:{port_of(listener)}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
