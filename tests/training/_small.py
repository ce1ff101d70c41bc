"""A network that trains in no time, without chance in it: no augmentation, no dropout."""

from __future__ import annotations

from typing import Any

from audioml.params import Params, PluginSection

from ._synthetic import make_params


def small_params(model: dict[str, Any] | None = None, **training: Any) -> Params:
    section = {"name": "rescnn", "channels": [4], "width": 8, "dropout": 0.0} | (model or {})
    params = make_params(**({"max_epochs": 2} | training))
    return params.model_copy(update={"model": PluginSection(**section), "augment": []})
