from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name

from audioml.registry.names import MAX_LENGTH, flatten_metrics, metric_name


@pytest.mark.parametrize("name", ["accuracy", "f1/dog bark", "slice.speaker/jürgen", "a:b"])
def test_plain_names_stay(name: str) -> None:
    assert metric_name(name) == name


def test_forbidden_characters_become_their_codes() -> None:
    assert metric_name("f1/c#") == "f1/c_23_"
    assert metric_name("f1/c+") != metric_name("f1/c#")
    assert metric_name("f1/..") == "f1/_"


@given(st.text(max_size=400).map(lambda label: f"f1/{label}"))
def test_mlflow_takes_every_name(name: str) -> None:
    _validate_metric_name(metric_name(name))
    assert len(metric_name(name)) <= MAX_LENGTH


def test_metrics_get_one_flat_name_each() -> None:
    metrics = {"test": {"accuracy": 1.0, "f1": {"c#": 0.5, "c+": 0.25}}, "validation": {"n": 3}}
    flat = flatten_metrics(metrics)
    assert flat == {"test_accuracy": 1.0, "test_f1/c#": 0.5, "test_f1/c+": 0.25, "validation_n": 3.0}
    assert len({metric_name(name) for name in flat}) == len(flat)
