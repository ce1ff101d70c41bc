from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest

from audioml.errors import RegistryError, ServiceError
from audioml.pipeline.context import Context
from audioml.ports import listen, port_of
from audioml.serving.model import LoadedModel
from audioml.serving.run import serve


def test_answers_over_http_until_terminated(registered: Context, tone_wav: Callable[[float], bytes]) -> None:
    answers: list[Future[httpx.Response]] = []

    def ask(address: str) -> httpx.Response:
        try:
            return httpx.post(f"{address}/predict", files={"file": tone_wav(3000.0)}, timeout=60)
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:

        def on_ready(address: str, model: LoadedModel) -> None:
            assert (model.name, model.version) == ("tones", 1)
            answers.append(pool.submit(ask, address))

        with pytest.raises(KeyboardInterrupt):
            serve(registered, "tones@champion", port=None, on_ready=on_ready)
    answer = answers[0].result().json()
    assert (answer["label"], answer["model"]) == ("high", {"name": "tones", "version": 1})


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
