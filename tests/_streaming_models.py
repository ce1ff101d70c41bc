"""Small models that can answer streams, one of each kind, that nobody trained."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from audioml.features import logmel
from audioml.inference.description import MODEL, STREAM, Description, write_description
from audioml.plugins import load_plugin, stream_block
from audioml.tasks import ctc
from audioml.training.export import export_onnx
from audioml.training.network import Network
from audioml.training.stream_export import export_stream

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gru": ("gru", {"bidirectional": False, "layers": 1}),
    "lstm": ("lstm", {"bidirectional": False, "layers": 1}),
    "crnn": ("crnn", {"bidirectional": False, "causal": True, "channels": (8, 8)}),
    "conformer": ("conformer", {"chunk_frames": 4, "left_chunks": 2, "layers": 1}),
}
FEATURES = logmel.Params(length="whole")
RATE = FEATURES.sample_rate
TEXTS = ["no one", "one two", "two", "no"]
SURE = 1e-3
"""Absolute, of confidences, which are rounded to 1e-4."""


def make_targets(decoder: bool) -> dict[str, Any]:
    targets = ctc.fit_targets(ctc.Params(), pd.DataFrame({"clip_id": list("abcd"), "label": TEXTS}))
    return targets | ({"decoder": {"beam": 8, "weight": 0.5, "bonus": 0.0}} if decoder else {})


def describe(case: str, decoder: bool = False) -> Description:
    name, params = MODELS[case]
    plugin = load_plugin("models", name)
    return Description(
        name="words",
        clean=[],
        features={"name": "logmel", "params": FEATURES.model_dump(mode="json")},
        task={"name": "ctc", "params": ctc.Params().model_dump(mode="json")},
        model={"name": name, "params": plugin.Params(**params).model_dump(mode="json")},
        targets=make_targets(decoder),
        input_shape=(FEATURES.n_mels, None),
        stream_block=stream_block(name, plugin.Params(**params)),
    )


def make_network(case: str) -> Network:
    """A network that nobody trained, but of whose units now this one, now that one is the most probable."""
    name, params = MODELS[case]
    plugin = load_plugin("models", name)
    torch.manual_seed(1)
    model = plugin.build(plugin.Params(**params), (FEATURES.n_mels, None))
    head = ctc.build_head(ctc.Params(), make_targets(False), model.width)
    network = Network(model, head, FEATURES.n_mels).eval()
    network.set_standardisation(np.full(FEATURES.n_mels, -50, np.float32), np.full(FEATURES.n_mels, 20, np.float32))
    with torch.no_grad():
        outputs = network(torch.from_numpy(logmel.extract(FEATURES, make_sound(60000)[np.newaxis])))
        mean, deviation = outputs.mean(dim=(0, 2)), outputs.std(dim=(0, 2))
        head.weight.mul_(4 / deviation[:, None, None])  # type: ignore[operator]
        head.bias.sub_(mean).mul_(4 / deviation)  # type: ignore[operator, union-attr]
    return network


def export(case: str, folder: Path) -> None:
    """Write what the package of a model holds: both networks, and the description of one without a decoder."""
    network, examples = make_network(case), [20 * torch.randn(1, FEATURES.n_mels, 70) - 50]
    export_onnx(network, examples, folder / MODEL, any_frames=True)
    block = describe(case).stream_block
    assert block
    export_stream(network, examples, folder / STREAM, block)
    write_description(folder, describe(case))


def make_sound(n_samples: int, seed: int = 0) -> np.ndarray:
    """Tones that come and go, in noise."""
    generator, at = np.random.default_rng(seed), np.arange(n_samples)
    pitches_hz = np.repeat(generator.uniform(100, 4000, n_samples // 2000 + 1), 2000)[:n_samples]
    loud = np.repeat(generator.uniform(0, 0.5, n_samples // 900 + 1), 900)[:n_samples]
    return (loud * np.sin(2 * np.pi * pitches_hz * at / RATE) + generator.normal(0, 0.01, n_samples)).astype(np.float32)


def as_wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Text, words and times are equal; confidences are within `SURE`."""
    assert found["text"] == expected["text"]
    assert found["confidence"] == pytest.approx(expected["confidence"], abs=SURE)
    for word, other in zip(found["words"], expected["words"], strict=True):
        assert word == {**other, "confidence": pytest.approx(other["confidence"], abs=SURE)}
