"""The trigger form: what a person may choose for one run, and the settings that come of it.

Airflow checks choices and types against each field's JSON schema before a run is made; `begin`, the run's first
Airflow task, checks the rest before anything runs (`audioml.orchestration.run_params`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from airflow.sdk import Param

from audioml.orchestration.overrides import SETTING
from audioml.params import Params
from audioml.plugins import plugin_names

PATHS = {"model": "model.name", "features": "features.name", "max_epochs": "training.max_epochs"}
"""Fields that stand for one key of params.yaml."""
OVERRIDES = "overrides"
"""The field of further settings."""


def run_form(params: Params) -> dict[str, Param]:
    """Return the form of a workspace; its defaults are the workspace's params.

    No field names a section: Airflow's page opens with the fields of its own section, and folds away all others.
    """
    defaults = _defaults(params)
    return {
        "model": Param(
            defaults["model"],
            type="string",
            enum=plugin_names("models"),
            title="Model",
            description="Another model than the workspace's starts from its own defaults (model.name).",
        ),
        "features": Param(
            defaults["features"],
            type="string",
            enum=plugin_names("features"),
            title="Features",
            description="What the model sees of the audio (features.name).",
        ),
        "max_epochs": Param(
            defaults["max_epochs"],
            type="integer",
            minimum=1,
            title="Epochs, at most",
            description="Training stops earlier when it gets no better (training.max_epochs, training.patience).",
        ),
        OVERRIDES: Param(
            [],
            type=["array", "null"],
            # The form sends blank lines as empty strings, and a field that was emptied as null.
            items={"type": "string", "pattern": rf"^\s*({SETTING})?$"},
            title="Further settings",
            description=(
                "One a line, PATH=VALUE with a path in params.yaml and a value in YAML, such as "
                "training.learning_rate=0.003 or augment.0.max_shift_share=0.2. They are checked before anything runs, "
                "hold for this run only, and are kept with it: audioml params --run RUN."
            ),
        ),
    }


def form_settings(params: Params, run_params: Mapping[str, Any]) -> list[str]:
    """Return what a filled-in form changes, as settings; an untouched form, or none, changes nothing.

    Parameters
    ----------
    params : Params
        The workspace's, which the form's defaults were made from.
    run_params : mapping
        The params of the DAG run, by field. Others are left alone.
    """
    defaults = _defaults(params)
    changed = {
        PATHS[field]: run_params[field] for field in PATHS if run_params.get(field, defaults[field]) != defaults[field]
    }
    lines = [line.strip() for line in run_params.get(OVERRIDES) or []]
    return [f"{path}={_as_yaml(value)}" for path, value in changed.items()] + [line for line in lines if line]


def _defaults(params: Params) -> dict[str, Any]:
    return {"model": params.model.name, "features": params.features.name, "max_epochs": params.training.max_epochs}


def _as_yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n").strip()
