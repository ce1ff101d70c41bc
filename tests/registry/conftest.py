"""One real MLflow server for all tests of the registry, and workspaces with a data set and a package."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from audioml.pipeline.context import Context
from audioml.registry.package import save_package
from audioml.registry.server import use_server
from audioml.store.manifest import MANIFEST_TYPES, write_manifest

GIT = ("git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org")


@pytest.fixture(autouse=True)
def no_configured_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("MLFLOW_REGISTRY_URI", raising=False)


@pytest.fixture(scope="session")
def server_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with use_server(tmp_path_factory.mktemp("server") / ".audioml") as server:
        yield server.url


@pytest.fixture
def configured(server_uri: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The shared server, as a user configures one."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server_uri)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", server_uri)
    return server_uri


@pytest.fixture
def make_workspace(tmp_path: Path, minimal_params: dict[str, Any]) -> Callable[[str], Context]:
    """A function that makes a workspace of a name: params, a manifest of 3 clips, a commit."""

    def make(name: str) -> Context:
        root = tmp_path / name
        root.mkdir()
        (root / "params.yaml").write_text(yaml.safe_dump(minimal_params | {"name": name, "registry": {"gates": []}}))
        subprocess.run([*GIT, "init", "-q", "-b", "main"], cwd=root, check=True)
        subprocess.run([*GIT, "add", "params.yaml"], cwd=root, check=True)
        subprocess.run([*GIT, "commit", "-q", "-m", "start"], cwd=root, check=True, env=os.environ)
        clips = {column: [kind.to_pandas_dtype()()] * 3 for column, kind in MANIFEST_TYPES.items()}
        clips |= {"path": ["a", "b", "c"], "label": ["low", "low", "high"], "duration_s": [1800.0, 900.0, 900.0]}
        (root / "data").mkdir()
        write_manifest(root / "data" / "manifest.parquet", pd.DataFrame(clips))
        return Context.load(root)

    return make


def golden_tones(tone_wav: Callable[[float], bytes]) -> list[tuple[str, bytes]]:
    return [("low", tone_wav(250.0)), ("high", tone_wav(2500.0))]


@pytest.fixture(scope="session")
def package(
    tmp_path_factory: pytest.TempPathFactory,
    tone_model: tuple[Path, dict[str, Any]],
    tone_wav: Callable[[float], bytes],
) -> Path:
    folder = tmp_path_factory.mktemp("models") / "package"
    (folder.parent / "checkpoint.ckpt").write_bytes(b"weights")
    save_package(
        folder,
        onnx=tone_model[0],
        description=tone_model[1],
        example_audio=tone_wav(200.0),
        checkpoint=folder.parent / "checkpoint.ckpt",
        golden=golden_tones(tone_wav),
    )
    return folder
