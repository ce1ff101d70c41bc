"""`audioml serve` as a process, a real registry, requests all the while."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pandas as pd
import pytest
import yaml
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

from audioml.inference.golden import GOLDEN
from audioml.pipeline.context import Context
from audioml.registry.package import ARTIFACTS, save_package
from audioml.registry.runs import training_run
from audioml.registry.versions import register_package
from audioml.serving.prediction_log import FOLDER
from tests._polling import wait_until

pytestmark = pytest.mark.slow
CLIENTS = 4


@contextmanager
def server_of(ctx: Context, tracking_uri: str, **serving: Any) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `audioml serve` for the block; yield its process and address."""
    params = yaml.safe_load((ctx.workspace / "params.yaml").read_text())
    (ctx.workspace / "params.yaml").write_text(yaml.safe_dump({**params, "serving": {"poll_s": 0.1, **serving}}))
    command = [sys.executable, "-m", "audioml", "serve", "--port", "0", "--workspace", str(ctx.workspace)]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": tracking_uri}
    with (
        (ctx.workspace / "server.log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True) as process,
    ):
        try:
            assert process.stdout
            found = re.search(r"http://[0-9.:]+", process.stdout.readline())
            assert found, (ctx.workspace / "server.log").read_text()
            yield process, found[0]
        finally:
            process.kill()


@pytest.fixture(scope="module")
def three_versions(
    registered: Context,
    tmp_path_factory: pytest.TempPathFactory,
    tone_model: tuple[Path, dict[str, Any]],
    tone_wav: Callable[[float], bytes],
) -> Context:
    """`tones` in three versions; the third does not answer its golden clips as it says that it did."""
    folder = tmp_path_factory.mktemp("versions")
    with training_run(registered) as tracker:
        pass
    for i in (2, 3):
        description = {**tone_model[1], "temperature": float(i)}
        package = folder / f"package-{i}"
        clips = [("clip", tone_wav(200.0))]
        save_package(package, onnx=tone_model[0], description=description, example_audio=tone_wav(200.0), golden=clips)
        if i == 3:
            table = pd.read_parquet(package / ARTIFACTS / GOLDEN)
            table.assign(audio=[tone_wav(3000.0)]).to_parquet(package / ARTIFACTS / GOLDEN)
        register_package(registered, package, tracker.run_id, {})
    return registered


def point(alias: str, version: int) -> None:
    mlflow.MlflowClient().set_registered_model_alias("tones", alias, str(version))


def test_versions_change_under_load_without_a_failed_request(
    three_versions: Context, tone_wav: Callable[[float], bytes]
) -> None:
    point("champion", 1)
    with server_of(three_versions, mlflow.get_tracking_uri()) as (process, url):
        seen: Counter[tuple[int, int | None]] = Counter()
        stop = threading.Event()

        def ask() -> None:
            with httpx.Client() as client:
                while not stop.is_set():
                    response = client.post(f"{url}/predict", content=tone_wav(200.0))
                    answer = response.json()
                    assert answer.get("label") == "low"
                    seen[response.status_code, answer["model"]["version"]] += 1

        threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            for version in (2, 1, 2):
                point("champion", version)
                before = seen[200, version]
                wait_until(lambda: seen[200, version] > before + 20, f"answers of version {version}")  # noqa: B023
            # One that fails its golden clips is refused and reported, and version 2 serves on.
            point("champion", 3)
            wait_until(lambda: "primary" in httpx.get(f"{url}/health/ready").json()["refused"], "version 3 is refused")
            state = httpx.get(f"{url}/health/ready").json()
            assert state["model"]["version"] == 2
            assert state["refused"]["primary"]["version"] == 3
            assert "golden clip" in state["refused"]["primary"]["reason"]
            assert 'audioml_model_refused{role="primary"} 1.0' in httpx.get(f"{url}/metrics").text
            point("champion", 1)
            wait_until(lambda: httpx.get(f"{url}/health/ready").json()["model"]["version"] == 1, "version 1 again")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert set(seen) == {(200, 1), (200, 2)}
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)
    # What was answered stands in the log, to the last row, with the version that answered.
    logged = Counter(pd.read_parquet(three_versions.state / FOLDER)["version"])
    assert logged == {version: n for (_, version), n in seen.items()}
    lines = [json.loads(line) for line in (three_versions.workspace / "server.log").read_text().splitlines()]
    assert sum(line.get("path") == "/predict" for line in lines) == seen.total()


def test_canary_and_shadow(three_versions: Context, tone_wav: Callable[[float], bytes]) -> None:
    point("champion", 1)
    point("challenger", 2)
    point("candidate", 2)
    uri = mlflow.get_tracking_uri()
    with (
        server_of(three_versions, uri, canary="challenger", canary_share=0.5, shadow="candidate") as (_, url),
        httpx.Client() as client,
    ):
        roles = {"primary", "canary", "shadow"}
        wait_until(lambda: set(client.get(f"{url}/health/ready").json()["serving"]) == roles, "all roles")
        answers = [client.post(f"{url}/predict", content=tone_wav(200.0)).json() for _ in range(60)]
        # Each of two versions answers none of 60 with a probability of 2^-59.
        assert {answer["model"]["version"] for answer in answers} == {1, 2}

        def shadowed() -> dict[str, float]:
            found = re.findall(r'audioml_shadow_total\{outcome="(\w+)"\} (\S+)', client.get(f"{url}/metrics").text)
            return {outcome: float(value) for outcome, value in found}

        wait_until(lambda: sum(shadowed().values()) == 60, "the shadow has heard all")
        assert set(shadowed()) <= {"same", "skipped"}
        assert shadowed()["same"] > 0


def test_stopping_answers_what_is_under_way(three_versions: Context, tone_wav: Callable[[float], bytes]) -> None:
    """A request whose body is still coming in when the server is told to stop gets its answer."""
    point("champion", 1)
    with server_of(three_versions, mlflow.get_tracking_uri()) as (process, url):
        sent, stopped = threading.Event(), threading.Event()

        def body() -> Iterator[bytes]:
            yield tone_wav(200.0)[:100]
            sent.set()
            assert stopped.wait(60)
            yield tone_wav(200.0)[100:]

        answers: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: answers.append(httpx.post(f"{url}/predict", content=body())))
        thread.start()
        assert sent.wait(60)
        time.sleep(0.5)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        stopped.set()
        thread.join()
        assert process.wait(60) in (0, -signal.SIGTERM)
    assert (answers[0].status_code, answers[0].json()["label"]) == (200, "low")


def test_mlflow_client_asks_as_it_asks_mlflow(three_versions: Context, tone_wav: Callable[[float], bytes]) -> None:
    point("champion", 1)
    table = pd.DataFrame({"audio": [tone_wav(200.0), tone_wav(3000.0)]})
    with server_of(three_versions, mlflow.get_tracking_uri()) as (process, url):
        host, port = url.removeprefix("http://").split(":")
        client = ScoringServerClient(host, int(port))
        client.wait_server_ready(timeout=30, scoring_server_proc=process)
        # MLflow's client writes JSON, which has no bytes; its servers take base64 in binary columns.
        found = client.invoke(table.map(lambda clip: base64.b64encode(clip).decode())).get_predictions()
    expected = mlflow.pyfunc.load_model("models:/tones@champion").predict(table)
    pd.testing.assert_frame_equal(found[expected.columns], expected)
