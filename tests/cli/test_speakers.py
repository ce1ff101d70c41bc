"""`audioml speakers`, against a real MLflow server of the workspace."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner, Result

from audioml.cli import app
from audioml.errors import DecodeError, ParamsError, RegistryError, SourceError
from audioml.pipeline.context import Context
from audioml.registry.package import save_package
from audioml.registry.promotion import promote
from audioml.registry.runs import training_run
from audioml.registry.server import use_server
from audioml.registry.versions import register_package
from audioml.serving.speaker_index import FOLDER

SPEAKER = {"name": "speaker", "params": {}}
TARGETS = {"labels": ["high", "low"], "embedding": 2, "accept_above": 0.95}


@pytest.fixture(scope="module")
def voices_model(tone_model: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A model of the task speaker: an embedding is how strong the lower and the upper mel bands are."""
    description = tone_model[1] | {"task": SPEAKER, "targets": TARGETS}
    bins, frames = description["input_shape"]
    weights = np.zeros((bins, 4), np.float32)
    weights[bins // 2 :, [0, 2]] = weights[: bins // 2, [1, 3]] = 2 / bins
    nodes = [
        # Decibels, of which silence has -100.
        helper.make_node("Add", ["features", "offset"], ["positive"]),
        helper.make_node("ReduceMean", ["positive"], ["spectrum"], axes=[2], keepdims=0),
        helper.make_node("MatMul", ["spectrum", "weights"], ["outputs"]),
    ]
    graph = helper.make_graph(
        nodes,
        "voices",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", bins, frames])],
        [helper.make_tensor_value_info("outputs", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(np.float32(100), "offset")],
    )
    path = tmp_path_factory.mktemp("voices") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path, description


@pytest.fixture(scope="module")
def registered(
    tmp_path_factory: pytest.TempPathFactory, voices_model: Any, tone_model: Any, tone_wav: Any
) -> Iterator[Path]:
    """A workspace with three versions: the champion, another one of its task, and one that tells tones apart."""
    root = tmp_path_factory.mktemp("voices")
    params = {
        "name": "voices",
        "data": {"layout": "folder", "source": "clips"},
        "features": {"name": "logmel"},
        "task": {"name": "speaker"},
        "model": {"name": "bcresnet"},
        "registry": {"gates": []},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    for name, frequency_hz in (("low", 200.0), ("low2", 220.0), ("high", 3000.0), ("high2", 2900.0)):
        (root / f"{name}.wav").write_bytes(tone_wav(frequency_hz))
    (root / "bad.wav").write_bytes(b"no audio")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        ctx = Context.load(root)
        package = root / "package"
        with use_server(ctx.state):
            for (onnx_path, description), note in ((voices_model, "1"), (voices_model, "2"), (tone_model, "3")):
                save_package(package, onnx=onnx_path, description=description, example_audio=tone_wav(200.0))
                (package / "requirements.txt").write_text(f"# {note}")
                with training_run(ctx) as tracker:
                    register_package(ctx, package, tracker.run_id, {"test_eer": 0.1})
                shutil.rmtree(package)
            yield root


@pytest.fixture
def workspace(registered: Path) -> Path:
    """The same, with version 1 as champion and nobody enrolled."""
    shutil.rmtree(registered / ".audioml" / FOLDER, ignore_errors=True)
    promote(Context.load(registered), 1, by="ann", reason="a test", force=True)
    return registered


@pytest.fixture
def speakers(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """A function that runs `audioml speakers` in the workspace."""
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *arguments: CliRunner().invoke(app, ["speakers", *arguments])


def test_speakers_are_enrolled_recognised_and_forgotten(workspace: Path, speakers: Callable[..., Result]) -> None:
    assert "Nobody was ever enrolled." in speakers("list").output
    done = json.loads(speakers("enrol", "Ann Low", "low.wav", "--json").output)
    assert (done["added"], done["index"]) == ([str(workspace / "low.wav")], 1)
    assert (done["model"]["name"], done["model"]["version"]) == ("voices", 1)
    told = speakers("enrol", "Ann Low", "low.wav").output
    assert f"low.wav adds nothing: it is enrolled already, as {workspace / 'low.wav'}" in told
    assert "Ann Low: 0 added, 1 in all. The index is at version 1, made by voices version 1." in told
    speakers("enrol", "bob", "high.wav")

    answers = json.loads(speakers("identify", "low2.wav", "high2.wav", "--json").output)
    assert [answer["speaker"] for answer in answers] == ["Ann Low", "bob"]
    assert all(answer["similarity"] > 0.95 == answer["threshold"] for answer in answers)
    unsure = speakers("identify", "low2.wav", "bad.wav", "--threshold", "1")
    assert unsure.exit_code == 1
    assert unsure.output.splitlines()[1].split()[:4] == ["low2.wav", "unknown", "Ann", "Low"]
    assert "not readable as audio (unreadable: " in unsure.output

    accepted = speakers("verify", "bob", "high2.wav")
    assert (accepted.exit_code, accepted.output.split()[5]) == (0, "yes")
    rejected = speakers("verify", "bob", "high2.wav", "low2.wav", "--json")
    assert rejected.exit_code == 1
    assert [answer["accepted"] for answer in json.loads(rejected.output)] == [True, False]

    assert "bob: 1 removed. The index is at version 3" in speakers("forget", "bob").output
    listed = json.loads(speakers("list", "--json").output)
    assert listed["speakers"] == [{"speaker": "Ann Low", "recordings": 1}]


def test_a_new_champion_needs_a_rebuild(workspace: Path, speakers: Callable[..., Result]) -> None:
    speakers("enrol", "ann", "low.wav")
    promote(Context.load(workspace), 2, by="ann", reason="a test")
    refused = speakers("identify", "low2.wav").exception
    assert isinstance(refused, RegistryError)
    for said in ("voices version 1", "voices version 2", "audioml speakers rebuild", "--model voices/1"):
        assert said in str(refused)
    assert speakers("verify", "ann", "low2.wav", "--model", "voices/1").exit_code == 0
    assert "1 embedded anew. The index is at version 2, made by voices version 2." in speakers("rebuild").output
    assert speakers("verify", "ann", "low2.wav").exit_code == 0
    back = speakers("verify", "ann", "low2.wav", "--model", "voices/1").exception
    assert "audioml speakers rebuild --model voices/1" in str(back)


def test_errors_say_what_to_do(speakers: Callable[..., Result]) -> None:
    of_tones = speakers("enrol", "ann", "low.wav", "--model", "voices/3").exception
    assert isinstance(of_tones, RegistryError)
    assert "voices version 3 is a model of the task classification" in str(of_tones)
    assert "Take a model of the task speaker" in str(of_tones)
    missing = speakers("enrol", "ann", "none.wav", "--model", "nothing@all").exception
    assert isinstance(missing, SourceError)
    bad = speakers("enrol", "ann", "low.wav", "bad.wav").exception
    assert isinstance(bad, DecodeError)
    assert str(bad).startswith("unreadable: bad.wav: ")
    assert json.loads(speakers("list", "--json").output)["speakers"] == []
    assert isinstance(speakers("forget", "ann").exception, ParamsError)


def test_every_command_has_help_with_an_example() -> None:
    for command in ("enrol", "identify", "verify", "list", "forget", "rebuild"):
        assert f"audioml speakers {command}" in CliRunner().invoke(app, ["speakers", command, "--help"]).output


def test_no_torch_is_loaded(workspace: Path) -> None:
    code = (
        "import sys; from audioml.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "print('torch' in sys.modules)"
    )
    arguments = ["speakers", "enrol", "ann", "low.wav"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=workspace, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
