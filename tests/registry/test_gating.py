"""Gates on real versions: tones, a real registry, and a real server of each challenger."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import pandas as pd
import pytest
import yaml
from onnx import numpy_helper

from audioml.errors import RegistryError
from audioml.inference.golden import GOLDEN
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
from audioml.registry import gating
from audioml.registry.comparison import compare
from audioml.registry.gating import GATES_TAG
from audioml.registry.package import ARTIFACTS, save_package
from audioml.registry.paired import read_scores
from audioml.registry.promotion import crown_first, list_events, promote, show
from audioml.registry.runs import training_run
from audioml.registry.tracking import tracking
from audioml.registry.versions import register_package, resolve
from audioml.store.manifest import MANIFEST, read_manifest

pytestmark = pytest.mark.usefixtures("configured")
GATES = [
    {"name": "validation"},
    {"name": "leakage"},
    {"name": "champion", "require": "better"},
    {"name": "slices", "columns": ["level"], "min_clips": 3},
    {"name": "parity"},
    {"name": "smoke", "clips": 4},
    {"name": "cost", "max_mb": 1.0, "max_ms": 1000.0},
]


@pytest.fixture
def ctx(tmp_path: Path, tone_wav: Callable[[float], bytes]) -> Context:
    """A workspace of tones, half of them low, split, with its data set checked."""
    for i in range(20):
        for label, start_hz in (("low", 200), ("high", 2500)):
            path = tmp_path / "tones" / label / f"{i}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tone_wav(start_hz + 20 * i))
    raw = {
        "name": f"gated-{tmp_path.name}",
        "data": {"layout": "folder", "source": str(tmp_path / "tones")},
        "split": {"test_share": 0.4},
        "features": {"name": "logmel"},
        "task": {"name": "classification"},
        "model": {"name": "bcresnet"},
        "registry": {"gates": GATES},
    }
    workspace = tmp_path / "ws"
    workspace.mkdir()
    (workspace / "params.yaml").write_text(yaml.safe_dump(raw))
    ctx = Context.load(workspace)
    for step in ("ingest", "validate", "split"):
        run_step(ctx, find_step(step), jobs=1)
    return ctx


@pytest.fixture
def register(
    ctx: Context, tmp_path: Path, tone_model: tuple[Path, dict[str, Any]], tone_wav: Callable[[float], bytes]
) -> Callable[..., int]:
    """A function that registers a version: the network that hears tones, or one with no weights, which says high."""

    def add(*, deaf: bool = False, spoil: Callable[[Path], None] | None = None, **description: Any) -> int:
        network, described = tone_model
        model = onnx.load(str(network))
        (weights,) = model.graph.initializer
        if deaf:
            weights.CopyFrom(numpy_helper.from_array(0 * numpy_helper.to_array(weights), weights.name))
        onnx.save(model, str(tmp_path / "model.onnx"))
        package = tmp_path / f"package-{len(list(tmp_path.glob('package-*')))}"
        golden = [("low", tone_wav(250.0)), ("high", tone_wav(2600.0))]
        save_package(
            package,
            onnx=tmp_path / "model.onnx",
            description=described | description,
            example_audio=tone_wav(200.0),
            golden=golden,
        )
        if spoil:
            spoil(package / ARTIFACTS)
        with training_run(ctx) as tracker:
            pass
        with tracking(ctx):
            return register_package(ctx, package, tracker.run_id, {"test_accuracy": 0.9}, crown=False).version

    return add


def verdicts(found: dict[str, Any]) -> dict[str, bool | None]:
    return {gate["name"]: gate["passed"] for gate in found["gates"]}


def test_only_the_right_ones_become_champion(
    ctx: Context, register: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first is as bad as can be, but there is none to be worse than.
    assert crown_first(ctx, register(deaf=True)) == ""
    equal = register(deaf=True, temperature=2.0)
    found = compare(ctx)
    assert verdicts(found) == {gate["name"]: gate["name"] != "champion" for gate in GATES}
    with pytest.raises(RegistryError, match=r"Gate champion: test_accuracy differs by .0\.0000"):
        promote(ctx, equal, by="dag", reason="new")

    better = register()
    found = compare(ctx)
    assert set(verdicts(found).values()) == {True}, found["gates"]
    # What they said is kept: a promotion that follows asks no gate again.
    with monkeypatch.context() as patched:
        patched.setattr(gating, "_ask", lambda *_: pytest.fail("asked again"))
        answer = promote(ctx, better, by="dag", reason="better")
    assert (answer["promotion"]["forced"], answer["promotion"]["failed_gates"]) == (False, ())

    worse = register(deaf=True, temperature=3.0)
    found = compare(ctx)
    failed = {name for name, passed in verdicts(found).items() if passed is False}
    assert {"champion", "slices"} <= failed
    with pytest.raises(RegistryError, match="To promote it all the same: --force"):
        promote(ctx, worse, by="dag", reason="new")
    assert resolve(ctx).version == better
    forced = promote(ctx, worse, by="ann", reason="a test of the alarm", force=True)["promotion"]
    assert forced["forced"]
    assert {"champion", "slices"} <= set(forced["failed_gates"])
    assert list_events(ctx)[-1].failed_gates == forced["failed_gates"]
    shown = show(ctx, worse)
    assert verdicts(shown) == verdicts(found)
    assert shown["history"][-1]["by"] == "ann"


def skew(artifacts: Path) -> None:
    """Have the package make its features otherwise than in training."""
    description = json.loads((artifacts / "model.json").read_text())
    description["features"]["params"]["fmin"] = 2000.0
    (artifacts / "model.json").write_text(json.dumps(description))


def break_network(artifacts: Path) -> None:
    (artifacts / "model.onnx").write_bytes(b"no network")


def forget_golden_clips(artifacts: Path) -> None:
    (artifacts / GOLDEN).unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (skew, "must not serve|differs from that of the trained network"),
        (break_network, "does not start"),
        (forget_golden_clips, "has no golden.parquet to compare with"),
    ],
)
def test_one_that_answers_otherwise_than_it_was_trained_does_not_pass(
    ctx: Context, register: Callable[..., int], spoil: Callable[[Path], None], said: str
) -> None:
    ctx = limit_gates(ctx, "parity")
    version = register(spoil=spoil)
    assert re.search(said, crown_first(ctx, version))
    (gate,) = compare(ctx, version)["gates"]
    assert gate["passed"] is False
    assert re.search(said, gate["said"]), gate["said"]
    with pytest.raises(RegistryError, match="champion"):
        resolve(ctx)


def limit_gates(ctx: Context, *names: str) -> Context:
    params = yaml.safe_load((ctx.workspace / "params.yaml").read_text())
    params["registry"]["gates"] = [gate for gate in GATES if gate["name"] in names]
    (ctx.workspace / "params.yaml").write_text(yaml.safe_dump(params))
    return Context.load(ctx.workspace)


def test_other_gates_are_asked_anew(ctx: Context, register: Callable[..., int]) -> None:
    ctx = limit_gates(ctx, "validation")
    version = register()
    assert list(verdicts(compare(ctx, version))) == ["validation"]
    ctx = limit_gates(ctx, "validation", "leakage")
    assert list(verdicts(compare(ctx, version))) == ["validation", "leakage"]


def test_what_the_gates_look_at_has_changed(
    ctx: Context, register: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = limit_gates(ctx, "validation")
    version, report = register(), ctx.path("reports/validation.json")
    passed = report.read_text()
    report.unlink()
    assert verdicts(compare(ctx, version)) == {"validation": False}
    report.write_text(passed)
    assert verdicts(compare(ctx, version)) == {"validation": True}
    with monkeypatch.context() as patched:
        patched.setattr(gating, "_ask", lambda *_: pytest.fail("asked again"))
        assert verdicts(compare(ctx, version)) == {"validation": True}
    failed = json.loads(passed)
    failed["success"] = failed["checks"][0]["success"] = False
    report.write_text(json.dumps(failed))
    assert verdicts(compare(ctx, version)) == {"validation": False}


def test_a_package_that_is_gone_passes_no_gate(ctx: Context, register: Callable[..., int]) -> None:
    version = register()
    client = mlflow.MlflowClient()
    client.set_model_version_tag(ctx.model_name, str(version), "audioml.package_digest", "0" * 64)
    found = compare(ctx, version)
    assert verdicts(found) == {"package": False}
    assert "was changed on the server" in found["reason"]
    assert GATES_TAG in client.get_model_version(ctx.model_name, str(version)).tags


def test_scores_are_those_of_the_same_clips(ctx: Context, register: Callable[..., int]) -> None:
    deaf, hearing = register(deaf=True), register()
    versions = [resolve(ctx, f"{ctx.model_name}@{number}") for number in (hearing, deaf)]
    scores = read_scores(ctx, *versions)
    assert scores is not None
    manifest = read_manifest(ctx.path(MANIFEST))
    assert set(scores["clip_id"]) < set(manifest["clip_id"])
    assert scores["ours"].eq(1).all()
    pd.testing.assert_series_equal(scores["theirs"], (scores["label"] == "high").astype(float), check_names=False)
    assert np.all(scores[["ours_of", "theirs_of"]] == 1)
