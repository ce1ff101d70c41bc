from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from audioml.errors import RegistryError, ServiceError
from audioml.pipeline.context import Context
from audioml.ports import listen, port_of
from audioml.registry.tracking import tracking
from audioml.registry.workspace import Elsewhere
from audioml.serving import model
from audioml.serving.model import LoadedModel
from audioml.serving.run import serve


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also where a shell started the tests in the background and has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_answers_over_http_until_terminated(registered: Context, tone_wav: Callable[[float], bytes]) -> None:
    answers: list[Future[httpx.Response]] = []

    def ask(address: str) -> httpx.Response:
        try:
            return httpx.post(f"{address}/predict", files={"file": tone_wav(3000.0)}, timeout=60)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:

        def on_ready(address: str, loaded: LoadedModel) -> None:
            assert (loaded.name, loaded.version) == ("tones", 1)
            answers.append(pool.submit(ask, address))

        with pytest.raises(KeyboardInterrupt):
            serve(registered, "tones@champion", port=None, on_ready=on_ready)
    answer = answers[0].result().json()
    assert (answer["label"], answer["model"]) == ("high", {"name": "tones", "version": 1})


def test_waits_for_a_model_that_is_not_registered_yet(registered: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "POLL_INTERVAL_S", 0.0)
    load, reasons = model.load_model, list[str]()

    def load_later(ctx: Context, reference: str | None) -> LoadedModel:
        return load(ctx, "tones@1" if len(reasons) == 2 else "tones@nobody" if reasons else "tunes")

    monkeypatch.setattr(model, "load_model", load_later)
    loaded = model.wait_for_model(registered, "tones@champion", reasons.append)
    assert (loaded.name, loaded.version) == ("tones", 1)
    assert "No model is called 'tunes'" in reasons[0]
    assert "no version or alias 'nobody'" in reasons[1]
    with pytest.raises(RegistryError, match="does not name a model"):
        model.wait_for_model(registered, "no such @ model @", reasons.append)


def test_no_workspace_is_needed_for_a_named_model_on_a_named_server(
    registered: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tracking(registered) as url:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
        loaded = model.load_model(Elsewhere(tmp_path / "state", "tones"), "tones@champion")
    assert (loaded.name, loaded.version) == ("tones", 1)
    assert list((tmp_path / "state").iterdir())


def test_port_in_use_before_anything_is_loaded(registered: Context) -> None:
    with listen("127.0.0.1", None, "test") as taken:
        port = port_of(taken)
        with pytest.raises(ServiceError, match=f"port {port} on 127.0.0.1 is in use by another process"):
            serve(registered, "no such @ model @", port=port)


def test_unknown_model_frees_the_port(registered: Context) -> None:
    listener = listen("127.0.0.1", None, "test")
    port = port_of(listener)
    listener.close()
    for _ in range(2):
        with pytest.raises(RegistryError, match="No model is called 'tunes'"):
            serve(registered, "tunes", port=port)


@pytest.mark.parametrize("port", [70000, -1])
def test_no_port(registered: Context, port: int) -> None:
    with pytest.raises(ServiceError, match="give a number from 1 to 65535"):
        serve(registered, port=port)
