"""Two versions on the same clips, against a real MLflow server: tones, and a model that always says high."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import yaml
from onnx import numpy_helper

from audioml.params import PluginSection
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
from audioml.registry import paired
from audioml.registry.comparison import compare
from audioml.registry.package import save_package
from audioml.registry.promotion import promote
from audioml.registry.runs import training_run
from audioml.registry.versions import register_package
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, write_splits

pytestmark = pytest.mark.usefixtures("configured")
TEST_CLIPS = 12


@pytest.fixture
def ctx(tmp_path: Path, tone_wav: Callable[[float], bytes]) -> Context:
    """A workspace of tones, half of them low, of which twelve are the test set."""
    for i in range(10):
        for label, start_hz in (("low", 200), ("high", 2500)):
            path = tmp_path / "tones" / label / f"{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tone_wav(start_hz + 20 * i))
    raw = {
        "name": f"paired-{tmp_path.name}",
        "data": {"layout": "folder", "source": str(tmp_path / "tones")},
        "features": {"name": "logmel"},
        "task": {"name": "classification"},
        "model": {"name": "bcresnet"},
        "registry": {"gates": []},
    }
    workspace = tmp_path / "ws"
    workspace.mkdir()
    (workspace / "params.yaml").write_text(yaml.safe_dump(raw))
    ctx = Context.load(workspace)
    run_step(ctx, find_step("ingest"), jobs=1)
    manifest = read_manifest(ctx.path(MANIFEST))
    test = manifest.groupby("label").cumcount() < TEST_CLIPS // 2
    split = pd.Series("train", index=manifest.index).mask(test, "test")
    fold = pd.array([pd.NA] * len(manifest), dtype="Int64")
    write_splits(ctx.path(SPLITS), pd.DataFrame({"clip_id": manifest["clip_id"], "split": split, "fold": fold}))
    return ctx


@pytest.fixture
def register(
    ctx: Context, tmp_path: Path, tone_model: tuple[Path, dict[str, Any]], tone_wav: Callable[[float], bytes]
) -> Callable[..., None]:
    """A function that registers a version: the network that hears tones, or one with no weights, which says high."""

    def add(accuracy: float, *, deaf: bool = False, **description: Any) -> None:
        network, described = tone_model
        model = onnx.load(str(network))
        (weights,) = model.graph.initializer
        if deaf:
            weights.CopyFrom(numpy_helper.from_array(0 * numpy_helper.to_array(weights), weights.name))
        onnx.save(model, str(tmp_path / "model.onnx"))
        package = tmp_path / f"package-{deaf}-{len(description)}"
        save_package(
            package,
            onnx=tmp_path / "model.onnx",
            description=described | description,
            example_audio=tone_wav(200.0),
        )
        with training_run(ctx) as tracker:
            register_package(ctx, package, tracker.run_id, {"test_accuracy": accuracy})

    return add


def test_the_same_clips_decide_not_the_registered_figures(
    ctx: Context, register: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    register(0.99, deaf=True)
    register(0.9)
    found = compare(ctx)
    both = found["paired"]
    assert (both["n"], both["ours"], both["theirs"], both["difference"]) == (TEST_CLIPS, 1.0, 0.5, 0.5)
    assert sorted(both["gained"]) == [f"low/{i}.wav" for i in range(TEST_CLIPS // 2)]
    assert both["lost"] == []
    assert both["p_value"] == pytest.approx(2 / 2**6)
    assert 0 < both["low"] < 0.5 < both["high"] < 1
    assert (found["better"], found["promotable"]) == ("challenger", True)
    assert "test_accuracy 1, the champion (version 1) has 0.5 on the same 12 test clips" in found["reason"]
    # What was found is kept: a promotion that follows runs no model.
    monkeypatch.setattr(paired, "_load", lambda *_: pytest.fail("computed again"))
    assert promote(ctx, by="ann", reason="hears")["paired"] == both


def test_a_metric_of_all_clips_is_compared_as_what_it_is(ctx: Context, register: Callable[..., None]) -> None:
    tagging = {
        "task": {"name": "tagging", "params": {}},
        "targets": {"labels": ["high", "low"], "thresholds": [0.5, 0.5], "separator": ";"},
    }
    register(0.5, deaf=True, **tagging)
    register(0.9, **tagging)
    assert "Version 2 is for the task tagging, not classification" in compare(ctx)["not_paired"]
    ctx = replace(ctx, params=ctx.params.model_copy(update={"task": PluginSection(name="tagging")}))
    found = compare(ctx)["paired"]
    # Equal scores for all clips rank them in no order: the average precision of each label is its share of the clips,
    # and both shares are 1 together, in each resample.
    assert (found["ours"], found["theirs"]) == (1.0, pytest.approx(0.5))
    assert (found["low"], found["high"]) == pytest.approx((0.5, 0.5))


def test_a_champion_that_does_not_know_a_label_is_compared_by_its_figures(
    ctx: Context, register: Callable[..., None]
) -> None:
    register(0.8, targets={"labels": ["high", "other"]})
    register(0.7)
    found = compare(ctx)
    assert found["paired"] is None
    assert "Version 1 cannot be judged on these test clips" in found["not_paired"]
    assert "['low']" in found["not_paired"]
    assert found["better"] == "champion"


def test_what_is_predicted_at_a_time_is_bounded() -> None:
    durations_s = np.array([1.0] * 20 + [4000.0, 4000.0] + [300.0] * 3)
    batches = paired._batch(durations_s)
    assert np.concatenate(batches).tolist() == list(range(25))
    assert [len(rows) for rows in batches[:3]] == [16, 4, 1]
    assert all(durations_s[rows[1:]].sum() <= paired.BATCH_S for rows in batches)
