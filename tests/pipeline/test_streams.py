"""From recordings to a model that answers streams: what training leaves, and what a package holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from audioml.errors import ParamsError
from audioml.inference.predictor import Predictor
from audioml.inference.streaming import StreamingPredictor
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
from audioml.pipeline.steps.split import VALIDATION
from audioml.store.files import write_json
from audioml.training.tracker import MemoryTracker

RATE = 8000
PITCHES_HZ = {"low": 400, "high": 2000}


class Run(MemoryTracker):
    run_id = "0" * 32


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def training_run(ctx: Context, run_id: str | None = None) -> Iterator[Run]:
        yield Run()

    monkeypatch.setattr("audioml.registry.runs.training_run", training_run)


def write_words(folder: Path, n: int) -> Path:
    """Write recordings in which a tone is a word, and a table of their texts."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    rows = ["path,label"]
    for i in range(n):
        words = generator.choice(list(PITCHES_HZ), generator.integers(2, 4)).tolist()
        parts = [np.zeros(RATE // 10)]
        for word in words:
            parts += [0.4 * np.sin(2 * np.pi * PITCHES_HZ[word] * np.arange(RATE // 4) / RATE), np.zeros(RATE // 10)]
        samples = np.concatenate(parts)
        soundfile.write(folder / f"{i:02d}.wav", samples + generator.normal(0, 0.01, samples.size), RATE)
        rows.append(f"{i:02d}.wav,{' '.join(words)}")
    (folder / "texts.csv").write_text("\n".join(rows) + "\n")
    return folder / "texts.csv"


def train(folder: Path, source: Path, model: dict[str, Any]) -> Path:
    """Run the pipeline and return the folder of the package's model."""
    window = {"n_fft": 256, "win_length": 256, "hop_length": 80}
    params = {
        "name": "words",
        "data": {"layout": "table", "source": str(source)},
        "clean": [],
        "features": {"name": "logmel", "sample_rate": RATE, "length": "whole", **window},
        "task": {"name": "ctc"},
        "model": model,
        "training": {"max_epochs": 2, "batch_size": 4, "accelerator": "cpu"},
    }
    folder.mkdir()
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    ctx = Context.load(folder)
    write_json(ctx.path(VALIDATION), {"success": True})
    for step in ("ingest", "split", "featurize", "train"):
        run_step(ctx, find_step(step), jobs=1)
    return ctx.path("models/package/artifacts")


def test_a_trained_model_hears_a_stream_as_it_hears_the_file(tmp_path: Path, no_server: None) -> None:
    source = write_words(tmp_path / "words", 24)
    model = {"name": "crnn", "channels": [8], "hidden": 16, "bidirectional": False, "causal": True}
    package = train(tmp_path / "ws", source, model)
    predictor = Predictor.load(package)
    assert predictor.description.stream_block == 2
    streaming = StreamingPredictor.load(predictor, package)
    for path in sorted(source.parent.glob("*.wav"))[:3]:
        stream = streaming.open()
        samples = soundfile.read(path, dtype="float32")[0]
        for start in range(0, len(samples), 501):
            stream.push(samples[start : start + 501])
        assert stream.finish()["text"] == predictor.predict([path.read_bytes()])[0]["text"]
        (expected,) = predictor.predict_outputs([path.read_bytes()])
        np.testing.assert_allclose(stream.output(), expected, atol=1e-4)


def test_a_model_of_whole_clips_leaves_nothing_for_streams(tmp_path: Path, no_server: None) -> None:
    source = write_words(tmp_path / "words", 12)
    package = train(tmp_path / "ws", source, {"name": "crnn", "channels": [8], "hidden": 16})
    assert not (package / "stream.onnx").exists()
    with pytest.raises(ParamsError, match="cannot answer streams"):
        StreamingPredictor.load(Predictor.load(package), package)
