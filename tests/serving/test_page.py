"""The page as it is served; what it does in a browser is in test_page_in_browser.py."""

from __future__ import annotations

import re

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient

from audioml.inference.predictor import Predictor
from audioml.serving.page import FILES, add_page

from ._served import serve_app


@pytest.fixture(scope="module")
def client(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    return TestClient(serve_app(tmp_path_factory.mktemp("state"), predictor)[0])


def test_the_page_and_all_that_it_names(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    names = re.findall(r'(?:src|href)="(static/[^"]+)"', page.text)
    scripts = [path for path in FILES.iterdir() if path.suffix == ".js"]
    names += [f"static/{name}" for path in scripts for name in re.findall(r'"\./(\w+\.js)"', path.read_text())]
    assert {name.removeprefix("static/") for name in names} | {"index.html", "worklet.js"} == {
        path.name for path in FILES.iterdir()
    }
    for name in names:
        assert client.get(f"/{name}").status_code == 200


def test_nothing_runs_that_is_not_a_file_of_its_own(client: TestClient) -> None:
    for path in ("/", "/static/page.js", "/static/page.css"):
        headers = client.get(path).headers
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    html = client.get("/").text
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)", html)
    for path in FILES.iterdir():
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg|\s)", path.read_text().replace("https:// or", ""))


def test_browsers_keep_files_and_ask_whether_they_are_right(client: TestClient) -> None:
    first = client.get("/static/page.js")
    assert first.headers["cache-control"] == "no-cache"
    assert client.get("/static/page.js", headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    assert client.get("/", headers={"If-None-Match": client.get("/").headers["etag"]}).status_code == 304


def test_no_file_beside_the_page(client: TestClient) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static/none.js", "/static/"):
        assert client.get(path).status_code == 404


def test_the_card_is_asked_for_each_time() -> None:
    app, versions = FastAPI(), iter((1, 2))
    add_page(app, lambda: {"name": "tones", "version": next(versions)})
    client = TestClient(app)
    assert client.get("/model").json() == {"name": "tones", "version": 1, "streams": False}

    @app.websocket("/stream")
    async def stream(socket: WebSocket) -> None:
        await socket.accept()

    assert client.get("/model").json() == {"name": "tones", "version": 2, "streams": True}


def test_an_application_without_a_card_names_its_model(client: TestClient) -> None:
    assert client.get("/model").json() == {"name": "tones", "version": 3, "streams": True}


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out(scheme: int) -> None:
    """WCAG 2.2, success criteria 1.4.3 (text: 4.5) and 1.4.11 (edges of controls: 3)."""
    blocks = re.findall(r":root \{(.*?)\}", (FILES / "page.css").read_text(), re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[scheme]))
    for ground in ("page", "card"):
        for text in ("ink", "quiet", "accent", "problem", "live"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        assert contrast(colours["edge"], colours[ground]) >= 3, ground
    for ground in ("accent", "hover"):
        assert contrast(colours["on-accent"], colours[ground]) >= 4.5
    assert contrast(colours["quiet"], colours["track"]) >= 4.5


def contrast(one: str, other: str) -> float:
    """Contrast ratio as WCAG 2.2 defines it."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return sum(weight * value for weight, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
