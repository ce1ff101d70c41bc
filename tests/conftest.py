"""Fixtures shared by all tests."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import soundfile

REPOSITORY = Path(__file__).resolve().parents[1]

# OpenMP reads these when torch is first imported. Threads that spin while they wait take the cores from the other
# workers' tests: training a few steps in each of two workers on two cores took four times the CPU time. And workers
# share the cores, as training's processes do.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if n_workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // n_workers)))


def _data_folder(name: str) -> Path:
    root = Path(os.environ.get("AUDIOML_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    folder = root / name
    if not folder.is_dir():
        pytest.skip(f"real recordings are not at {folder}; set AUDIOML_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def fsdd_dir() -> Path:
    """The folder of FSDD recordings, or skip."""
    return _data_folder("fsdd/recordings")


@pytest.fixture(scope="session")
def esc10_dir() -> Path:
    """The folder of ESC-10 classes, or skip."""
    return _data_folder("esc10")


@pytest.fixture
def minimal_params() -> dict[str, Any]:
    """The fewest sections that params.yaml can hold; a fresh copy."""
    return {
        "name": "digits",
        "data": {"layout": "folder", "source": "/somewhere"},
        "features": {"name": "logmel"},
        "task": {"name": "classification"},
        "model": {"name": "bcresnet"},
    }


@pytest.fixture(autouse=True)
def own_import_path() -> Iterator[None]:
    """Take back what a test adds to the import path, such as the code of a model's package that MLflow loads."""
    before = sys.path[:]
    yield
    sys.path[:] = before


@pytest.fixture(scope="session")
def tone_wav() -> Callable[[float], bytes]:
    """A function from a frequency in Hz to a WAV file of that tone: 0.5 s at 8 kHz, 16 bits."""

    def make(frequency_hz: float) -> bytes:

        time_s = np.arange(4000) / 8000
        buffer = io.BytesIO()
        soundfile.write(buffer, 0.5 * np.sin(2 * np.pi * frequency_hz * time_s), 8000, format="WAV", subtype="PCM_16")
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def tone_model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A network in ONNX and its description: `low` for energy in the lower mel bins, `high` in the upper."""

    import onnx
    from onnx import TensorProto, helper, numpy_helper

    import audioml
    from audioml.features.logmel import Params, feature_shape

    params = Params(sample_rate=8000, duration_s=0.5)
    bins, frames = feature_shape(params)
    weights = np.zeros((bins, 2), np.float32)
    weights[: bins // 2, 1] = weights[bins // 2 :, 0] = 2 / bins
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["features"], ["spectrum"], axes=[2], keepdims=0),
            helper.make_node("MatMul", ["spectrum", "weights"], ["logits"]),
        ],
        "tones",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", bins, frames])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(weights, "weights")],
    )
    path = tmp_path_factory.mktemp("tones") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    description = {
        "name": "tones",
        "clean": [{"name": "remove_dc", "params": {}}],
        "features": {"name": "logmel", "params": params.model_dump(mode="json")},
        "task": {"name": "classification", "params": {}},
        "model": {"name": "none", "params": {}},
        "targets": {"labels": ["high", "low"]},
        "input_shape": [bins, frames],
        "audioml_version": audioml.__version__,
    }
    return path, description


FORMATS = (("wav", 8000, 1), ("flac", 16000, 1), ("ogg", 22050, 2), ("mp3", 44100, 1))


def write_tones(folder: Path, clips_per_label: int = 24, seed: int = 0) -> Path:
    """Write three classes of noisy tones (low, high, sweep), formats and rates mixed, with odd names."""
    generator = np.random.default_rng(seed)
    for label in ("low", "high", "schräg sweep"):
        (folder / label).mkdir(parents=True)
        for index in range(clips_per_label):
            extension, sample_rate, channels = FORMATS[index % len(FORMATS)]
            time_s = np.arange(int(sample_rate * generator.uniform(0.4, 0.7))) / sample_rate
            start_hz = {"low": 300.0, "high": 2200.0}.get(label, 500.0) * generator.uniform(0.9, 1.1)
            slope_hz_per_s = 4000.0 if label == "schräg sweep" else 0.0
            tone = 0.4 * np.sin(2 * np.pi * (start_hz * time_s + slope_hz_per_s * time_s**2 / 2))
            audio = tone[:, None] + generator.normal(0, 0.02, (len(tone), channels))
            soundfile.write(folder / label / f"clip {index:02d}.{extension}", audio, sample_rate)
    return folder


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tones(tmp_path_factory.mktemp("corpus") / "töne und mehr")


@dataclass
class Remote:
    """A source at a URL that a test fills."""

    url: str
    options: dict[str, Any]
    write: Callable[[str, bytes], object]
    """From a path relative to the URL, and bytes."""
    remove: Callable[[str], object]
    failing: dict[str, list[int]] = field(default_factory=dict)
    """Statuses that the web server gives instead of these files, one a request, by the end of their URL."""


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of moto's S3 server, with credentials for it in the environment."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    keys = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {**keys, "NO_PROXY": "127.0.0.1"}.items():
            patch.setenv(key, value)
        server.start()
        yield "http://{}:{}".format(*server.get_host_and_port())
        server.stop()


@pytest.fixture
def s3(s3_server: str) -> Remote:
    """A prefix of a bucket of its own."""
    import fsspec

    options = {"endpoint_url": s3_server}
    fs = fsspec.filesystem("s3", **options)
    prefix = f"{uuid4().hex}/birds"
    fs.mkdir(prefix.partition("/")[0])
    return Remote(
        f"s3://{prefix}",
        options,
        lambda path, data: fs.pipe_file(f"{prefix}/{path}", data),
        lambda path: fs.rm_file(f"{prefix}/{path}"),
    )


class _Listing(SimpleHTTPRequestHandler):
    failing: dict[str, list[int]]

    def send_head(self) -> Any:
        for end, statuses in self.failing.items():
            if statuses and self.path.endswith(end):
                self.send_error(HTTPStatus(statuses.pop()))
                return None
        return super().send_head()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def web(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    """A web server that lists a folder."""
    root = tmp_path / "served"
    (root / "birds").mkdir(parents=True)
    failing: dict[str, list[int]] = {}

    def write(path: str, data: bytes) -> None:
        (root / "birds" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "birds" / path).write_bytes(data)

    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = type("Handler", (_Listing,), {"failing": failing})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(root))) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        remove = lambda path: (root / "birds" / path).unlink()  # noqa: E731
        yield Remote(f"http://127.0.0.1:{server.server_port}/birds/", {}, write, remove, failing)
        server.shutdown()


@pytest.fixture(params=["s3", "web"])
def remote(request: pytest.FixtureRequest) -> Remote:
    """A source at a URL, of either kind."""
    found: Remote = request.getfixturevalue(request.param)
    return found
