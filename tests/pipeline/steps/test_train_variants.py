from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audioml.errors import ParamsError
from audioml.params import ExportParams
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
from audioml.store.files import hash_file, read_json

from ._train_space import make_workspace
from .test_train import Runs, runs

__all__ = ["runs"]
STEP = find_step("train")


def exporting(ctx: Context, **params: Any) -> Context:
    return replace(ctx, params=ctx.params.model_copy(update={"export": ExportParams(**params)}))


@pytest.fixture
def packaged(monkeypatch: pytest.MonkeyPatch, runs: Runs) -> list[dict[str, Any]]:
    """What is given to be packaged."""
    given: list[dict[str, Any]] = []
    monkeypatch.setattr("audioml.registry.package.save_package", lambda folder, **parts: given.append(parts))
    return given


def test_a_variant_is_made_of_the_training_that_is_there(
    tmp_path: Path, runs: Runs, packaged: list[dict[str, Any]]
) -> None:
    ctx = make_workspace(tmp_path)
    run_step(ctx, STEP)
    assert "variants" not in read_json(ctx.path("models/run.json"))
    trained = hash_file(ctx.path("models/model.onnx"))
    # Of twenty clips one may change sides.
    summary = run_step(exporting(ctx, int8=True, serve="int8", max_loss=0.1), STEP)
    assert runs.opened == ["run0"]
    assert summary["serves"] == "int8"
    assert hash_file(ctx.path("models/model.onnx")) == trained
    run = read_json(ctx.path("models/run.json"))
    assert {name: of["serves"] for name, of in run["variants"].items()} == {"float32": False, "int8": True}
    assert run["variants"]["float32"]["validation"] == pytest.approx(run["metrics"]["val_accuracy"])
    before, after = packaged
    assert (before["description"]["variant"], before["variants"]) == ("float32", {})
    assert after["description"]["variant"] == "int8"
    assert after["variants"] == {"float32": ctx.path("models/model.onnx")}
    assert after["onnx"].stat().st_size == run["variants"]["int8"]["bytes"]
    # The same params again are a new training, as without variants.
    run_step(exporting(ctx, int8=True, serve="int8", max_loss=0.1), STEP)
    assert runs.opened == ["run0", "run1"]


def test_a_pruned_network_that_lost_too_much_is_refused(
    tmp_path: Path, runs: Runs, packaged: list[dict[str, Any]]
) -> None:
    ctx = exporting(make_workspace(tmp_path), prune=0.8, prune_epochs=1, max_loss=0, serve="pruned")
    summary = run_step(ctx, STEP)
    run = read_json(ctx.path("models/run.json"))
    pruned = run["variants"]["pruned"]
    assert pruned["bytes"] < run["variants"]["float32"]["bytes"]
    assert pruned["loss"] == pytest.approx(run["variants"]["float32"]["validation"] - pruned["validation"])
    assert not pruned["accepted"]
    assert pruned["loss"] > 0.2
    assert summary["pruned"] == f"refused (loses {pruned['loss']:.4f} of 0)"
    assert summary["serves"] == packaged[0]["description"]["variant"] == "float32"
    assert packaged[0]["variants"] == {}


def test_models_that_cannot_be_pruned_are_refused_before_they_are_trained(tmp_path: Path, runs: Runs) -> None:
    ctx = exporting(make_workspace(tmp_path, {"name": "knn"}), prune=0.3)
    with pytest.raises(ParamsError, match=r"export\.prune.*'knn'"):
        run_step(ctx, STEP)
    assert runs.opened == []
