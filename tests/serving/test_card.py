from __future__ import annotations

import json
from dataclasses import replace

import pytest

import audioml
from audioml.inference.predictor import Predictor
from audioml.pipeline.context import Context
from audioml.registry.provenance import Provenance, trace_version
from audioml.registry.tracking import tracking
from audioml.registry.versions import RegisteredVersion, resolve
from audioml.serving.card import make_card
from audioml.serving.model import load_model


@pytest.fixture(scope="module")
def traced(registered: Context) -> tuple[RegisteredVersion, Predictor, Provenance]:
    with tracking(registered):
        version = resolve(registered)
        model = load_model(registered)
        assert isinstance(model.predictor, Predictor)
        return version, model.predictor, trace_version(version)


def test_a_loaded_model_has_its_card(registered: Context) -> None:
    card = load_model(registered).card
    assert card is not None
    assert json.loads(json.dumps(card)) == card
    assert (card["name"], card["version"], card["aliases"]) == ("tones", 1, ["challenger", "champion"])
    assert (card["task"], card["features"], card["network"]) == ("classification", "logmel", "none")
    assert (card["labels"], card["sample_rate"], card["window_s"]) == (["high", "low"], 8000, 0.5)
    headline = {"metric": "accuracy", "value": 1.0, "low": None, "high": None, "n": None, "confidence": 0.95}
    assert card["headline"] == headline
    assert card["lineage"]["audioml_version"] == audioml.__version__
    assert card["trained"] <= card["registered"]


def test_metrics_of_the_test_set_with_their_interval(
    traced: tuple[RegisteredVersion, Predictor, Provenance],
) -> None:
    version, predictor, provenance = traced
    metrics = {
        "noise_accuracy/0_db": 0.2,
        **{"test_accuracy": 0.9, "test_low": 0.8, "test_high": 0.95, "test_n": 40.0, "test_f1/low": 0.7},
    }
    card = make_card(replace(version, metrics=metrics), predictor.description, provenance)
    expected = {"metric": "accuracy", "value": 0.9, "low": 0.8, "high": 0.95, "n": 40, "confidence": 0.95}
    assert card["headline"] == expected
    assert card["metrics"] == {"accuracy": 0.9, "f1/low": 0.7}


def test_what_is_not_known_is_left_open(traced: tuple[RegisteredVersion, Predictor, Provenance]) -> None:
    version, predictor, provenance = traced
    whole = replace(predictor.description, input_shape=(40, None), targets={"units": ["a", "b"]})
    card = make_card(replace(version, metrics={}), whole, provenance)
    assert (card["headline"], card["metrics"], card["window_s"], card["labels"]) == (None, {}, None, ["a", "b"])
