"""A workspace with a registered model, on a real MLflow server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from audioml.inference.predictor import Predictor
from audioml.pipeline.context import Context
from audioml.registry.package import save_package
from audioml.registry.runs import training_run
from audioml.registry.tracking import tracking
from audioml.registry.versions import register_package
from audioml.store.files import write_json


@pytest.fixture(scope="session")
def predictor(tone_model: tuple[Path, dict[str, Any]]) -> Predictor:
    """That says `low` or `high` of a tone."""
    write_json(tone_model[0].parent / "model.json", tone_model[1])
    return Predictor.load(tone_model[0].parent)


@pytest.fixture(scope="module")
def registered(
    tmp_path_factory: pytest.TempPathFactory,
    tone_model: tuple[Path, dict[str, Any]],
    tone_wav: Callable[[float], bytes],
) -> Iterator[Context]:
    """The model `tones`, version 1, champion."""
    root = tmp_path_factory.mktemp("tones")
    params = {
        "name": "tones",
        "data": {"layout": "folder", "source": "clips"},
        "features": {"name": "logmel"},
        "task": {"name": "classification"},
        "model": {"name": "bcresnet"},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    ctx = Context.load(root)
    package = root / "package"
    save_package(package, onnx=tone_model[0], description=tone_model[1], example_audio=tone_wav(200.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("MLFLOW_REGISTRY_URI", raising=False)
        with tracking(ctx):
            with training_run(ctx) as tracker:
                pass
            register_package(ctx, package, tracker.run_id, {"accuracy": 1.0})
            yield ctx
