"""A workspace whose champion says `low` or `high` of a tone, and carries a reference; and what a server would log."""

from __future__ import annotations

import datetime
import io
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from audioml.inference.predictor import Answer, Predictor
from audioml.inference.reference import ReferenceClip
from audioml.pipeline.context import Context
from audioml.registry.package import ARTIFACTS, save_package
from audioml.registry.runs import training_run
from audioml.registry.tracking import tracking
from audioml.registry.versions import register_package
from audioml.serving.prediction_log import FOLDER, Logged, PredictionLog
from audioml.store.files import hash_bytes

RATE = 8000
TODAY = datetime.datetime.now(datetime.UTC).date()
Clips = list[bytes]


def make_tones(n: int, seed: int, level: float = 1.0, noise: float = 0.005) -> Clips:
    """Tones of either kind, of different levels, lengths and pitches, in noise."""
    generator = np.random.default_rng(seed)
    clips = []
    for i in range(n):
        time_s = np.arange(int(RATE * generator.uniform(0.4, 0.7))) / RATE
        tone = np.sin(2 * np.pi * (300 if i % 2 else 2500) * generator.uniform(0.8, 1.2) * time_s)
        audio = level * generator.uniform(0.1, 0.5) * tone + generator.normal(0, noise, len(time_s))
        buffer = io.BytesIO()
        soundfile.write(buffer, audio, RATE, format="WAV", subtype="PCM_16")
        clips.append(buffer.getvalue())
    return clips


def reference_tones() -> list[ReferenceClip]:
    sides = {"train": make_tones(200, 1), "validation": make_tones(200, 2)}
    return [ReferenceClip(hash_bytes(clip), split, None, clip) for split, clips in sides.items() for clip in clips]


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, tone_model: tuple[Path, dict[str, Any]]) -> Iterator[Context]:
    """The workspace; its tracking server runs for all of the module."""
    root = tmp_path_factory.mktemp("tones")
    params = {
        "name": "tones",
        "data": {"layout": "folder", "source": "clips"},
        "features": {"name": "logmel"},
        "task": {"name": "classification"},
        "model": {"name": "bcresnet"},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    ctx = Context.load(root)
    package = root / "package"
    save_package(
        package,
        onnx=tone_model[0],
        description=tone_model[1],
        example_audio=make_tones(1, 0)[0],
        reference=reference_tones(),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("MLFLOW_REGISTRY_URI", raising=False)
        with tracking(ctx):
            with training_run(ctx) as tracker:
                pass
            register_package(ctx, package, tracker.run_id, {"test_accuracy": 0.99})
            yield ctx


@pytest.fixture(scope="module")
def answer(watched: Context) -> Callable[[Clips], list[Answer]]:
    """What the champion says of clips, measured."""
    predictor = Predictor.load(watched.path("package") / ARTIFACTS)
    return lambda clips: predictor.predict_each(clips, measured=True)  # type: ignore[return-value]


@pytest.fixture
def workspace(watched: Context, tmp_path: Path) -> Context:
    """The same model, with a log, feedback and reports of the test's own."""
    (tmp_path / "params.yaml").write_text(watched.path("params.yaml").read_text())
    (tmp_path / ".audioml").mkdir()
    (tmp_path / ".audioml" / "mlflow").symlink_to(watched.state / "mlflow")
    return Context.load(tmp_path)


@pytest.fixture
def log_clips(workspace: Context, answer: Callable[[Clips], list[Answer]]) -> Callable[..., None]:
    """Write what a server would of these clips, of a day and a version."""

    def write(clips: Clips, day: datetime.date = TODAY, version: int = 1, measured: bool = True) -> None:
        noon = datetime.datetime.combine(day, datetime.time(12), datetime.UTC).timestamp()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("audioml.serving.prediction_log.time.time", lambda: noon)
            log = PredictionLog(workspace.state / FOLDER)
            for i, (clip, said) in enumerate(zip(clips, answer(clips), strict=True)):
                measures = said.measures if measured else None
                log.add(
                    Logged(f"r{i}", 0, "tones", version, "primary", clip, said.info, said.prediction, 1.0, measures)
                )
            log.close()

    return write
