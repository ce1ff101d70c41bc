from __future__ import annotations

import base64
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

import audioml
from audioml.errors import DecodeError, StoreError
from audioml.inference.golden import check_golden
from audioml.inference.predictor import Predictor
from audioml.ports import listen, port_of
from audioml.registry.package import CODE, _signature, package_digest, save_package

from .conftest import golden_tones

REPOSITORY = Path(__file__).resolve().parents[2]

ELSEWHERE = """
import importlib.util, sys
sys.path[:] = [p for p in sys.path if p not in ("", {repository!r})]
sys.meta_path[:] = [f for f in sys.meta_path if "editable" not in type(f).__module__ + repr(f)]
assert importlib.util.find_spec("audioml") is None
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model({package!r})
clip = open({clip!r}, "rb").read()
print(model.predict(pd.DataFrame({{"audio": [clip]}}))["label"][0])
import audioml
assert audioml.__file__.startswith({package!r}), audioml.__file__
assert not {{"torch", "librosa", "matplotlib"}} & set(sys.modules), "inference needs none of these"
"""


def test_predictions_by_closed_form(package: Path, tone_wav: Callable[[float], bytes]) -> None:
    model = mlflow.pyfunc.load_model(str(package))
    answer = model.predict(pd.DataFrame({"audio": [tone_wav(200.0), tone_wav(3000.0)]}))
    assert list(answer["label"]) == ["low", "high"]
    assert list(answer["probability"]) == [max(row.values()) for row in answer["probabilities"]]
    assert all(abs(sum(row.values()) - 1) < 1e-6 for row in answer["probabilities"])


def test_equal_to_predictor(package: Path, fsdd_dir: Path) -> None:
    clips = [path.read_bytes() for path in sorted(fsdd_dir.iterdir())[:5]]
    answer = mlflow.pyfunc.load_model(str(package)).predict(pd.DataFrame({"audio": clips}))
    assert answer.to_dict("records") == Predictor.load(package / "artifacts").predict(clips)


def test_signature_and_example(package: Path) -> None:
    model = mlflow.models.Model.load(str(package))
    assert [(c.name, str(c.type)) for c in model.signature.inputs] == [("audio", "DataType.binary")]
    assert model.signature.outputs.input_names() == ["label", "probability", "probabilities"]
    example = model.load_input_example(str(package))
    assert mlflow.pyfunc.load_model(str(package)).predict(example)["label"][0] == "low"


def test_equal_models_make_equal_packages(
    package: Path, tmp_path: Path, tone_model: tuple[Path, dict[str, Any]], tone_wav: Callable[[float], bytes]
) -> None:
    again = tmp_path / "again"
    given = {"onnx": tone_model[0], "description": tone_model[1], "checkpoint": package.parent / "checkpoint.ckpt"}
    save_package(again, **given, example_audio=tone_wav(200.0), golden=golden_tones(tone_wav))
    files = sorted(p.relative_to(package) for p in package.rglob("*") if p.is_file() and p.suffix != ".pyc")
    assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
    assert [f for f in files if (package / f).read_bytes() != (again / f).read_bytes()] == []
    assert package_digest(again) == package_digest(package)
    (again / "artifacts" / "model.onnx").write_bytes(b"other")
    assert package_digest(again) != package_digest(package)


def test_golden_clips_tell_the_network_that_was_packaged_from_another(package: Path) -> None:
    artifacts = package / "artifacts"
    predictor = Predictor.load(artifacts)
    assert check_golden(predictor, artifacts) == 2
    swapped = replace(predictor, session=Swapped(predictor.session))
    with pytest.raises(StoreError, match="golden clip low"):
        check_golden(swapped, artifacts)


def test_other_variants_lie_beside_the_one_that_serves(
    tmp_path: Path, tone_model: tuple[Path, dict[str, Any]], tone_wav: Callable[[float], bytes]
) -> None:
    description = {**tone_model[1], "variant": "int8"}
    variants = {"float32": tone_model[0]}
    save_package(
        tmp_path / "package",
        onnx=tone_model[0],
        description=description,
        example_audio=tone_wav(200.0),
        variants=variants,
    )
    artifacts = tmp_path / "package" / "artifacts"
    assert {path.name for path in artifacts.iterdir()} == {"model.onnx", "model.json", "float32.onnx"}
    assert Predictor.load(artifacts).description.variant == "int8"
    loaded = Predictor.load(artifacts, network="float32.onnx")
    assert loaded.predict([tone_wav(200.0)])[0]["label"] == "low"


class Swapped:
    """Runs a network of two outputs that have changed places."""

    def __init__(self, session: Any) -> None:
        self.session = session

    def get_inputs(self) -> Any:
        return self.session.get_inputs()

    def run(self, names: None, inputs: Any) -> list[Any]:
        return [self.session.run(names, inputs)[0][:, ::-1]]


def test_no_path_of_this_machine(package: Path) -> None:
    text = "".join(p.read_text(errors="replace") for p in package.rglob("*") if p.is_file() and p.suffix != ".pyc")
    assert str(REPOSITORY) not in text
    assert str(package.parent) not in text
    assert "torch" not in (package / "requirements.txt").read_text()


def test_code_that_is_carried_imports_only_what_is_carried() -> None:
    """Of any task and features, when they are loaded; what only training needs is imported in functions."""
    root = Path(audioml.__file__).parent
    carried = {file for name in CODE for file in [root / name, *(root / name).rglob("*.py")] if file.suffix == ".py"}
    imports = {
        module.replace(".", "/")
        for file in carried
        for module in re.findall(r"^from audioml\.([\w.]+) import", file.read_text(), re.M)
    }
    missing = [m for m in sorted(imports) if not {root / f"{m}.py", root / m / "__init__.py"} & carried]
    assert missing == []


def test_failure_leaves_what_was_there(
    tmp_path: Path, tone_model: tuple[Path, dict[str, Any]], tone_wav: Callable[[float], bytes]
) -> None:
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "old").write_text("old")
    with pytest.raises(DecodeError, match="unreadable"):
        save_package(folder, onnx=tone_model[0], description=tone_model[1], example_audio=b"no audio")
    assert [p.name for p in tmp_path.rglob("*")] == ["package", "old"]


def test_bad_audio_names_the_clip(package: Path, tone_wav: Callable[[float], bytes]) -> None:
    model = mlflow.pyfunc.load_model(str(package))
    with pytest.raises(MlflowException, match="clip 1: not a known audio format"):
        model.predict(pd.DataFrame({"audio": [tone_wav(200.0), b"no audio at all"]}))


def test_loads_without_audioml_installed(package: Path, tmp_path: Path, tone_wav: Callable[[float], bytes]) -> None:
    clip = tmp_path / "high.wav"
    clip.write_bytes(tone_wav(3000.0))
    program = ELSEWHERE.format(repository=str(REPOSITORY), package=str(package), clip=str(clip))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, env=_without_python_path()
    )
    assert done.stdout.strip() == "high", done.stderr


@pytest.mark.slow
def test_answers_under_mlflow_models_serve(package: Path, tmp_path: Path, tone_wav: Callable[[float], bytes]) -> None:
    listener = listen("127.0.0.1", None, "test")
    port = port_of(listener)
    listener.close()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(package), "--env-manager", "local"]
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port), "--workers", "1"],
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        )
    try:
        _wait_for(server, port)
        clips = [[base64.b64encode(tone_wav(f)).decode()] for f in (200.0, 3000.0)]
        status, answer = _post(port, {"dataframe_split": {"columns": ["audio"], "data": clips}})
        assert status == 200, answer
        assert [row["label"] for row in answer["predictions"]] == ["low", "high"]
        bad = {"dataframe_split": {"columns": ["audio"], "data": [[base64.b64encode(b"noise").decode()]]}}
        status, answer = _post(port, bad)
        assert status == 400
        assert "cannot be read as audio" in answer["message"]
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def _wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    while server.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/ping")
            if connection.getresponse().status == 200:
                return
        except OSError:
            connection.close()
    pytest.fail("mlflow models serve ended")


def _post(port: int, body: dict[str, Any]) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/invocations", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def _without_python_path() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}


def test_lists_of_an_answer_have_types_even_when_the_example_has_none() -> None:
    prediction = {"events": [], "tags": ["dog"], "probabilities": {"dog": 0.9}}
    lists = {"events": {"label": str, "onset_s": float}, "tags": str, "alarms": {"label": str}}
    example = pd.DataFrame({"audio": [b"RIFF"]})
    outputs = _signature(example, prediction, lists).outputs
    assert outputs.input_names() == ["events", "tags", "probabilities"]
    assert json.loads(outputs.to_json()) == [
        {
            "type": "array",
            "name": "events",
            "required": True,
            "items": {
                "type": "object",
                "properties": {
                    "label": {"type": "string", "required": True},
                    "onset_s": {"type": "double", "required": True},
                },
            },
        },
        {"type": "array", "name": "tags", "required": True, "items": {"type": "string"}},
        {"type": "map", "name": "probabilities", "required": True, "values": {"type": "double"}},
    ]
