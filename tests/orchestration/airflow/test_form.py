from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from audioml.orchestration.overrides import apply_overrides
from audioml.params import Params, load_params, parse_params, read_raw_params
from audioml.plugins import plugin_names


@pytest.fixture
def params(workspace: Path) -> Params:
    return load_params(workspace)


def filled_in(params: Params, **changes: Any) -> dict[str, Any]:
    """Return what Airflow makes of a form with these changes; it refuses what the form's schema does."""
    from audioml.orchestration.airflow.form import run_form

    return {name: param.resolve(changes.get(name, param.value)) for name, param in run_form(params).items()}


def test_the_form_shows_the_workspace_as_it_is(params: Params) -> None:
    from audioml.orchestration.airflow.form import run_form

    form = run_form(params)
    assert form["model"].value == "bcresnet"
    assert form["model"].schema["enum"] == plugin_names("models")
    assert form["features"].schema["enum"] == plugin_names("features")
    assert form["max_epochs"].value == params.training.max_epochs
    for param in form.values():
        assert param.schema["title"]
        assert param.description


def test_an_untouched_form_and_no_form_change_nothing(params: Params) -> None:
    from audioml.orchestration.airflow.form import form_settings

    assert form_settings(params, filled_in(params)) == []
    assert form_settings(params, {}) == []
    # What the page sends of a field that was cleared, and of a line that was left empty.
    assert form_settings(params, filled_in(params, overrides=None)) == []
    assert form_settings(params, filled_in(params, overrides=["", "  "])) == []


def test_what_is_filled_in_comes_out_as_settings_that_apply(params: Params, workspace: Path) -> None:
    from audioml.orchestration.airflow.form import form_settings

    values = filled_in(
        params, model="rescnn", features="mfcc", max_epochs=3, overrides=["features.n_mfcc=13 ", "", "augment=[]"]
    )
    settings = form_settings(params, values)
    assert settings == [
        "model.name=rescnn",
        "features.name=mfcc",
        "training.max_epochs=3",
        "features.n_mfcc=13",
        "augment=[]",
    ]
    changed = parse_params(apply_overrides(read_raw_params(workspace / "params.yaml"), settings))
    assert (changed.model.name, changed.features.name, changed.training.max_epochs) == ("rescnn", "mfcc", 3)
    assert changed.plugin_section("features").n_mfcc == 13


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "resnet"},
        {"features": "logmell"},
        {"max_epochs": 0},
        {"max_epochs": 2.5},
        {"max_epochs": "3"},
        {"max_epochs": None},
        {"overrides": "training.max_epochs=3"},
        {"overrides": ["training.max_epochs"]},
        {"overrides": ["training max_epochs=3"]},
        {"overrides": ["--write=1"]},
        {"overrides": [3]},
    ],
)
def test_airflow_refuses_a_wrong_form_before_a_run_is_made(params: Params, wrong: dict[str, Any]) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        filled_in(params, **wrong)
