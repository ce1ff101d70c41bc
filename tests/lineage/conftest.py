"""A workspace on a real MLflow server: twelve tones, ingested, and a model that was trained on ten of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from audioml.audio.decode import AudioInfo
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
from audioml.registry.package import save_package
from audioml.registry.runs import training_run
from audioml.registry.server import use_server
from audioml.registry.tracking import tracking
from audioml.registry.training_sets import keep_training_set
from audioml.registry.versions import register_package
from audioml.serving.prediction_log import FOLDER, Logged, PredictionLog
from audioml.store.manifest import MANIFEST, read_manifest
from audioml.store.training_clips import write_training_clips

NUMBERS = count(1)


@pytest.fixture(scope="session")
def server_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with use_server(tmp_path_factory.mktemp("server") / ".audioml") as server:
            yield server.url


def register(ctx: Context, package: Path, name: str, splits: list[str]) -> None:
    """Register a model of this name that met the clips of the manifest in these splits; the first is in the package."""
    manifest = read_manifest(ctx.path(MANIFEST))
    table = pd.DataFrame(
        {
            "clip_id": manifest["clip_id"],
            "path": manifest["path"],
            "start_s": manifest["start_s"],
            "group": None,
            "split": splits,
            "features": "f.arrow",
            "packaged": [i == 0 for i in range(len(manifest))],
        }
    )
    write_training_clips(ctx.path("table.parquet"), table)
    named = replace(ctx, params=ctx.params.model_copy(update={"name": name}))
    with tracking(ctx):
        with training_run(named) as tracker:
            pass
        keep_training_set(register_package(named, package, tracker.run_id, {}), ctx.path("table.parquet"))


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory, tone_model: Any, tone_wav: Any) -> Path:
    folder = tmp_path_factory.mktemp("models") / "package"
    save_package(folder, onnx=tone_model[0], description=tone_model[1], example_audio=tone_wav(200.0))
    return folder


@pytest.fixture
def ctx(
    tmp_path: Path,
    minimal_params: dict[str, Any],
    tone_wav: Any,
    package: Path,
    server_uri: str,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Context:
    """The workspace; its model and its tones are its own on the server that tests share. `r1` asked about low/0."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server_uri)
    detuned_hz = 0.37 * next(NUMBERS)
    for i in range(6):
        for label, base in (("low", 200), ("high", 2000)):
            path = tmp_path / "recordings" / label / f"{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tone_wav(base + 10 * i + detuned_hz))
    params = minimal_params | {
        "name": f"m-{tmp_path.name}",
        "data": {"layout": "folder", "source": str(tmp_path / "recordings")},
        "ingest": {"shard_s": 2.0, **getattr(request, "param", {})},
    }
    (tmp_path / "space").mkdir()
    (tmp_path / "space" / "params.yaml").write_text(yaml.safe_dump(params))
    ctx = Context.load(tmp_path / "space")
    run_step(ctx, find_step("ingest"), jobs=1)
    n = len(read_manifest(ctx.path(MANIFEST)))
    register(ctx, package, ctx.model_name, ["test", *["train"] * (n - 2), "validation"])
    log = PredictionLog(ctx.state / FOLDER, keep_audio=True)
    info = AudioInfo("WAV", "PCM_16", 8000, 1, 4000)
    audio = (tmp_path / "recordings" / "low" / "0.wav").read_bytes()
    for file in (0, 1):
        log.add(Logged("r1", file, ctx.model_name, 1, "primary", audio, info, {"label": "low"}, 1.0))
    log.add(Logged("r2", 0, "gone", 7, "primary", b"other", info, {"label": "low"}, 1.0))
    log.close()
    return ctx
