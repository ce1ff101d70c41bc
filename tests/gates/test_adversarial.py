"""Attacks on a network that was trained here on tones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from audioml.errors import ParamsError
from audioml.evaluation.adversarial import Attack
from audioml.features import logmel
from audioml.gates import adversarial
from audioml.gates._evidence import Evidence, Side
from audioml.inference.description import MODEL, Description, write_description
from audioml.params import PluginSection, parse_section
from audioml.tasks import classification
from audioml.training.export import export_onnx
from audioml.training.network import build_network

from ._evidence import make_evidence

TARGETS = {"labels": ["high", "low"]}
FREQUENCIES_HZ = (300.0, 320.0, 340.0, 2500.0, 2600.0, 2700.0)


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory, tone_wav: Callable[[float], bytes]) -> Evidence:
    folder = tmp_path_factory.mktemp("package")
    clips = [tone_wav(frequency_hz) for frequency_hz in FREQUENCIES_HZ]
    test = pd.DataFrame({"label": ["low"] * 3 + ["high"] * 3})
    features = logmel.Params(sample_rate=8000, duration_s=0.5)
    params = make_evidence({}).params.model_copy(
        update={
            "model": PluginSection(name="rescnn", channels=[4], width=8),
            "task": PluginSection(name="classification"),
        }
    )
    shape = logmel.feature_shape(features)
    network = build_network(params, TARGETS, shape)
    time_s = np.arange(4000) / 8000
    audio = np.stack([0.5 * np.sin(2 * np.pi * f * time_s) for f in FREQUENCIES_HZ]).astype(np.float32)
    x, y = torch.from_numpy(logmel.extract(features, audio)), torch.tensor([1, 1, 1, 0, 0, 0])
    network.set_standardisation(np.full(shape[0], -40, np.float32), np.full(shape[0], 20, np.float32))
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(40):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(network(x), y).backward()
        optimiser.step()
    network.eval()
    export_onnx(network, [x[:1], x], folder / MODEL)
    torch.save({"state_dict": {f"network.{k}": v for k, v in network.state_dict().items()}}, folder / "checkpoint.ckpt")
    description = Description(
        name="tones",
        clean=[],
        features={"name": "logmel", "params": features.model_dump(mode="json")},
        task={"name": "classification", "params": classification.Params().model_dump(mode="json")},
        model={"name": "rescnn", "params": params.plugin_section("models").model_dump(mode="json")},
        targets=TARGETS,
        input_shape=shape,
    )
    write_description(folder, description)
    return make_evidence({}, challenger=Side(2, {}, folder), read_clips=lambda n: (test.iloc[:n], clips[:n]))


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_faint_noise_changes_nothing_and_loud_noise_much(evidence: Evidence, attack: Attack) -> None:
    faint = adversarial.check(adversarial.Params(attack=attack, snr_db=120, steps=3, min=1.0), evidence)
    assert (faint.passed, *faint.figures.values()) == (True, 1.0)
    loud = adversarial.check(adversarial.Params(attack=attack, snr_db=-20, steps=3, min=0.9), evidence)
    assert loud.passed is False
    assert f"accuracy under {attack} at -20 dB is" in loud.said


def test_a_model_without_weights_is_not_attacked(evidence: Evidence, tmp_path: Path) -> None:
    for name in (MODEL, "model.json"):
        (tmp_path / name).write_bytes((evidence.challenger.package / name).read_bytes())
    bare = make_evidence({}, challenger=Side(2, {}, tmp_path), read_clips=evidence.read_clips)
    verdict = adversarial.check(adversarial.Params(min=0.5), bare)
    assert (verdict.passed, "fitted without" in verdict.said) == (None, True)


def test_without_a_bound_it_is_no_gate() -> None:
    with pytest.raises(ParamsError, match="set min or max"):
        parse_section(adversarial.Params, {}, "registry.gates.0")
