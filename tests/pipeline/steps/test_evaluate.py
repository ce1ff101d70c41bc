"""evaluate on tones that a hand-made network tells apart: all numbers are known."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import numpy as np
import onnx
import pandas as pd
import pytest
import torch
import yaml
from onnx import numpy_helper
from sklearn.metrics import f1_score

import audioml.registry.runs
from audioml.errors import StepError
from audioml.inference.predictor import Predictor
from audioml.params import PluginSection, parse_params
from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
from audioml.store.features import open_features
from audioml.store.files import read_json, write_json
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits, write_manifest, write_splits
from audioml.store.parts import PARTS, Part, join_outputs, write_outputs
from audioml.training.network import build_network

STEP = find_step("evaluate")
TARGETS = {"labels": ["high", "low"]}
HISTORY = [
    {"epoch": 1, "train_loss": 0.7, "val_loss": 0.6, "val_accuracy": 0.8, "learning_rate": 0.01},
    {"epoch": 2, "train_loss": 0.4, "val_loss": 0.5, "val_accuracy": 0.9, "learning_rate": 0.001},
]


@pytest.fixture
def logged(monkeypatch):
    """What is given to MLflow."""
    calls = []

    def log_evaluation(ctx, run_id, metrics, figures, report):
        calls.append({"run_id": run_id, "metrics": metrics, "figures": figures, "report": report})

    monkeypatch.setattr(audioml.registry.runs, "log_evaluation", log_evaluation)
    return calls


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tone_wav, tone_model):
    """A workspace up to train: 40 tones, of which two of the test set have the wrong label."""
    folder = tmp_path_factory.mktemp("trained")
    workspace, source = folder / "ws", folder / "tones"
    for i in range(20):
        for label, start_hz in (("low", 200), ("high", 2500)):
            path = source / label / f"{i}_{'ann' if i % 2 else 'bob'}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tone_wav(start_hz + 20 * i))
    shutil.move(source / "high" / "0_bob.wav", source / "low" / "100_bob.wav")
    shutil.move(source / "low" / "1_ann.wav", source / "high" / "101_ann.wav")
    raw = {
        "name": "tones",
        "data": {"layout": "folder", "source": str(source), "pattern": r"(?P<take>\d+)_(?P<speaker>\w+)"},
        "features": {"name": "logmel", "sample_rate": 8000, "duration_s": 0.5},
        "task": {"name": "classification"},
        "model": {"name": "bcresnet"},
        # The network is made by hand, and has no checkpoint.
        "evaluate": {"explained_clips": 0, "noise_snrs_db": [20, 0], "noise_clips": 4, "timed_clips": 2},
    }
    workspace.mkdir()
    (workspace / "params.yaml").write_text(yaml.safe_dump(raw))
    ctx = Context(workspace, parse_params(raw))
    run_step(ctx, find_step("ingest"), jobs=1)
    run_step(ctx, find_step("featurize"), jobs=1)
    manifest = read_manifest(ctx.path(MANIFEST))
    take = manifest["take"].astype(int)
    split = np.select([(take < 6) | (take >= 100), take < 9], ["test", "validation"], "train")
    fold = pd.array([pd.NA] * len(manifest), dtype="Int64")
    write_splits(ctx.path(SPLITS), pd.DataFrame({"clip_id": manifest["clip_id"], "split": split, "fold": fold}))
    artifacts = ctx.path("models/package/artifacts")
    artifacts.mkdir(parents=True)
    network, description = tone_model
    shutil.copyfile(network, artifacts / "model.onnx")
    write_json(artifacts / "model.json", description)
    run = {"run_id": "f" * 32, "n_parameters": 80, "epochs": 2, "best_epoch": 2, "history": HISTORY}
    run |= {"targets": description["targets"]}
    write_json(ctx.path("models/run.json"), run)
    return ctx


@pytest.fixture
def ctx(trained, tmp_path, logged):
    """A copy of the trained workspace."""
    shutil.copytree(trained.workspace, tmp_path / "ws", symlinks=True)
    return Context(tmp_path / "ws", trained.params)


def test_metrics_are_those_of_sklearn(ctx, logged):
    summary = run_step(ctx, STEP)
    metrics = read_json(ctx.path("reports/metrics.json"))
    manifest = read_manifest(ctx.path(MANIFEST)).merge(read_splits(ctx.path(SPLITS)), on="clip_id")
    test = manifest[manifest["split"] == "test"]
    # The two clips that were moved are heard as what they are.
    heard = test["label"].where(test["take"].astype(int) < 100, test["label"].map({"low": "high", "high": "low"}))
    assert metrics["test"]["n"] == 12
    assert metrics["test"]["accuracy"] == pytest.approx(10 / 12)
    assert metrics["test"]["low"] < 10 / 12 < metrics["test"]["high"]
    assert metrics["test"]["macro_f1"] == pytest.approx(f1_score(test["label"], heard, average="macro"))
    per_label = f1_score(test["label"], heard, average=None, labels=["high", "low"])
    assert metrics["test"]["f1"] == pytest.approx({"high": per_label[0], "low": per_label[1]})
    assert metrics["validation"] == {"accuracy": 1.0, "n": 6}
    assert summary["accuracy"] == metrics["test"]["accuracy"]
    (call,) = logged
    assert call["run_id"] == "f" * 32
    assert call["metrics"]["test_accuracy"] == metrics["test"]["accuracy"]
    assert call["metrics"]["test_f1/low"] == metrics["test"]["f1"]["low"]
    assert call["metrics"]["validation_accuracy"] == 1.0
    assert {"confusion", "training_curves"} <= set(call["figures"])
    assert (call["report"] / "index.html").is_file()


def test_noise_calibration_and_cost_are_measured(ctx, logged):
    run_step(ctx, STEP)
    metrics = read_json(ctx.path("reports/metrics.json"))
    assert metrics["noise"]["n"] == 4
    assert set(metrics["noise"]["accuracy"]) == {"20_db", "0_db"}
    # It is sure of all, and two of twelve are wrong.
    assert metrics["calibration"]["ece"] == pytest.approx(2 / 12, abs=1e-3)
    assert metrics["calibration"]["temperature"] == 1
    assert metrics["model"] == {
        "parameters": 80,
        "multiply_adds": 80,
        "bytes": ctx.path("models/package/artifacts/model.onnx").stat().st_size,
    }
    (call,) = logged
    # What hangs on the machine is in MLflow and the report only.
    assert call["metrics"]["latency_p50_ms"] > 0
    assert call["metrics"]["noise_accuracy/0_db"] == metrics["noise"]["accuracy"]["0_db"]
    assert {"noise", "reliability"} <= set(call["figures"])


def test_groups_strangers_and_a_temperature(ctx):
    targets = {"labels": ["high", "low"], "unknown_below": 0.5}
    model = ctx.path("models/package/artifacts/model.json")
    write_json(model, read_json(model) | {"temperature": 30.0, "targets": targets})
    (ctx.workspace / "strangers").mkdir()
    shutil.copyfile(f"{ctx.params.data.source}/low/2_bob.wav", ctx.workspace / "strangers" / "a.wav")
    evaluate = ctx.params.evaluate.model_copy(update={"unknown": "strangers"})
    split = ctx.params.split.model_copy(update={"group": "speaker"})
    run_step(replace(ctx, params=ctx.params.model_copy(update={"evaluate": evaluate, "split": split})), STEP)
    metrics = read_json(ctx.path("reports/metrics.json"))
    assert metrics["unknown"]["n"] == 1
    assert metrics["test"]["rejected_share"] == metrics["unknown"]["rejected_share"] == 0
    assert metrics["calibration"]["ece_before"] == pytest.approx(2 / 12, abs=1e-3)
    html = (ctx.path("reports/evaluation") / "index.html").read_text(encoding="utf-8")
    assert "The clips are of 2 values of speaker only: the interval says nothing of others." in html
    assert "Of 1 recordings that are none of the labels" in html


def test_answers_are_explained_by_the_trained_network(ctx):
    params = ctx.params.model_copy(update={"evaluate": ctx.params.evaluate.model_copy(update={"explained_clips": 4})})
    ctx = replace(ctx, params=params)
    with pytest.raises(StepError, match=r"checkpoint\.ckpt is missing.*audioml run train"):
        run_step(ctx, STEP)
    network = build_network(params, {"labels": ["high", "low"]}, open_features(ctx.path("features")).shape)
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state}, ctx.path("models/checkpoint.ckpt"))
    run_step(ctx, STEP)
    html = (ctx.path("reports/evaluation") / "index.html").read_text(encoding="utf-8")
    # Both mistakes, and a right clip of each label.
    assert html.count('class="tall"') == 4
    assert "What made low/100_bob.wav, labelled low, be answered with high" in html


def test_a_model_without_gradient_descent_is_not_explained(ctx):
    evaluate = ctx.params.evaluate.model_copy(update={"explained_clips": 4})
    params = ctx.params.model_copy(update={"evaluate": evaluate, "model": PluginSection(name="svm")})
    ctx.path("models/checkpoint.ckpt").touch()
    run_step(replace(ctx, params=params), STEP)
    html = (ctx.path("reports/evaluation") / "index.html").read_text(encoding="utf-8")
    assert "the model svm is fitted without gradient descent" in html


def test_plots_are_tables_for_dvc(ctx):
    run_step(ctx, STEP)
    plots = ctx.path("reports/plots")
    assert len(pd.read_csv(plots / "noise.csv")) == 3
    assert pd.read_csv(plots / "reliability.csv")["n"].sum() == 12
    confusion = pd.read_csv(plots / "confusion.csv")
    assert list(confusion.columns) == ["actual", "predicted"]
    assert (confusion["actual"] != confusion["predicted"]).sum() == 2
    assert pd.read_csv(plots / "history.csv").to_dict("records") == HISTORY
    assert set(pd.read_csv(plots / "per_label.csv")["label"]) == {"high", "low"}
    slices = pd.read_csv(plots / "slices.csv")
    assert set(slices["slice"]) >= {"speaker", "take"}
    speaker = slices[slices["slice"] == "speaker"].set_index("value")
    assert speaker["n"].to_dict() == {"ann": 6, "bob": 6}


def test_folds_are_pooled_and_shown(ctx, logged):
    run_step(ctx, STEP)
    without = ctx.path("reports/plots").glob("folds.csv")
    assert list(without) == []
    assert "folds" not in read_json(ctx.path("reports/metrics.json"))
    manifest = read_manifest(ctx.path(MANIFEST))
    parts = []
    for speaker in ("ann", "bob"):
        clips = manifest[manifest["speaker"] == speaker]
        # Every clip is taken for low.
        parts.append(ctx.path(f"{speaker}.parquet"))
        outputs = np.tile(np.array([0.25, 0.75], np.float32), (len(clips), 1))
        write_outputs(parts[-1], Part("fold", speaker), clips["clip_id"].tolist(), outputs, TARGETS)
    join_outputs(ctx.path(PARTS), parts)
    # A threshold belongs to the final model.
    package = ctx.path("models/package/artifacts/model.json")
    description = read_json(package)
    description["targets"]["unknown_below"] = 0.6
    write_json(package, description)
    run_step(ctx, STEP)
    assert "rejected_share" in read_json(ctx.path("reports/metrics.json"))["test"]
    found = read_json(ctx.path("reports/metrics.json"))["folds"]
    low = (manifest["label"] == "low").groupby(manifest["speaker"]).mean()
    assert found["accuracy"] == pytest.approx((manifest["label"] == "low").mean())
    assert found["n"] == len(manifest) == 40
    assert "rejected_share" not in found
    assert found["low"] < found["accuracy"] < found["high"]
    assert found["accuracy_by_fold"] == pytest.approx(low.to_dict())
    assert found["mean"] == pytest.approx(low.mean())
    assert found["calibration"]["ece"] == pytest.approx(0.75 - found["accuracy"])
    table = pd.read_csv(ctx.path("reports/plots/folds.csv"))
    assert table[["fold", "n"]].to_numpy().tolist() == [["ann", 20], ["bob", 20]]
    assert 'id="folds"' in ctx.path("reports/evaluation/index.html").read_text(encoding="utf-8")
    assert logged[-1]["metrics"]["folds_accuracy_by_fold/ann"] == found["accuracy_by_fold"]["ann"]
    assert "folds" in logged[-1]["figures"]
    assert "folds" not in logged[0]["figures"]


def test_the_learning_curve_is_measured_and_shown(ctx, logged):
    run_step(ctx, STEP)
    assert "learning_curve" not in read_json(ctx.path("reports/metrics.json"))
    assert 'id="learning-curve"' not in ctx.path("reports/evaluation/index.html").read_text(encoding="utf-8")
    manifest = read_manifest(ctx.path(MANIFEST))
    splits = read_splits(ctx.path(SPLITS))
    train = splits.index[splits["split"] == "train"]
    splits.loc[train[:10], "share"] = 0.5
    splits.loc[train[:4], "share"] = 0.1
    write_splits(ctx.path(SPLITS), splits)
    with pytest.raises(StepError, match="audioml run train"):
        run_step(ctx, STEP)
    test = manifest[(splits["split"] == "test").to_numpy()]
    # With few clips every answer is low, with half of them every answer is right. The order is another.
    low = np.tile(np.array([0.25, 0.75], np.float32), (len(test), 1))
    right = np.eye(2, dtype=np.float32)[(test["label"] == "low").astype(int)]
    tables = []
    for share, outputs in (("0.1", low), ("0.5", right)):
        tables.append(ctx.path(f"{share}.parquet"))
        write_outputs(tables[-1], Part("share", share), test["clip_id"].tolist()[::-1], outputs[::-1], TARGETS)
    join_outputs(ctx.path(PARTS), tables)
    run_step(ctx, STEP)
    metrics = read_json(ctx.path("reports/metrics.json"))
    found = metrics["learning_curve"]
    assert {share: point["train_clips"] for share, point in found.items()} == {"0.1": 4, "0.5": 10, "all": len(train)}
    assert found["0.1"]["accuracy"] == pytest.approx((test["label"] == "low").mean())
    assert found["0.5"]["accuracy"] == found["0.5"]["high"] == 1
    assert found["all"] == {"train_clips": len(train)} | {k: metrics["test"][k] for k in ("accuracy", "low", "high")}
    assert "folds" not in metrics
    table = pd.read_csv(ctx.path("reports/plots/learning_curve.csv"))
    assert table[["share", "train_clips"]].to_numpy().tolist() == [["0.1", 4], ["0.5", 10], ["all", len(train)]]
    assert list(table) == ["share", "train_clips", "metric", "low", "high"]
    assert 'id="learning-curve"' in ctx.path("reports/evaluation/index.html").read_text(encoding="utf-8")
    assert logged[-1]["metrics"]["learning_curve_0.1/accuracy"] == found["0.1"]["accuracy"]
    assert "learning_curve" in logged[-1]["figures"]


def test_the_report_shows_the_mistakes(ctx):
    run_step(ctx, STEP)
    html = (ctx.path("reports/evaluation") / "index.html").read_text(encoding="utf-8")
    assert "low/100_bob.wav" in html
    assert "high/101_ann.wav" in html
    assert html.count("<audio") == 2
    assert "2 of 12 test clips are wrong" in html
    assert "f" * 32 in html


def test_the_same_again_is_the_same(ctx):
    run_step(ctx, STEP)
    files = [path for path in sorted(ctx.path("reports").rglob("*")) if path.is_file()]

    def read() -> dict[str, bytes]:
        # How long an answer took is the one thing that no two runs share.
        return {str(path): re.sub(rb'<dd class="timed">[^<]*', b"", path.read_bytes()) for path in files}

    before = read()
    run_step(ctx, STEP)
    assert read() == before


def test_outputs_that_differ_from_those_served_stop_the_step(ctx, monkeypatch):
    original = Predictor.predict_outputs
    monkeypatch.setattr(Predictor, "predict_outputs", lambda self, clips: original(self, clips) + 0.01)
    with pytest.raises(StepError, match=r"wav: the model's output from audio differs by 0.01 .*featurize"):
        run_step(ctx, STEP)
    assert not ctx.path("reports/metrics.json").exists()


def test_no_test_clips(ctx):
    splits = read_splits(ctx.path(SPLITS))
    write_splits(ctx.path(SPLITS), splits.assign(split="train"))
    with pytest.raises(StepError, match="no clips to test on"):
        run_step(ctx, STEP)


def test_no_validation_clips(ctx):
    splits = read_splits(ctx.path(SPLITS))
    write_splits(ctx.path(SPLITS), splits.assign(split=splits["split"].replace("validation", "train")))
    run_step(ctx, STEP)
    assert "validation" not in read_json(ctx.path("reports/metrics.json"))


def test_clips_without_features(ctx):
    splits = read_splits(ctx.path(SPLITS))
    manifest = read_manifest(ctx.path(MANIFEST))
    first = splits.loc[splits["split"] == "test", "clip_id"].iloc[0]
    stranger = "0" * 64
    manifest.loc[manifest["clip_id"] == first, "clip_id"] = stranger
    write_manifest(ctx.path(MANIFEST), manifest)
    write_splits(ctx.path(SPLITS), splits.replace({"clip_id": {first: stranger}}))
    with pytest.raises(StepError, match=r"1 of 12 clips have no stored features .*000000000000.*featurize"):
        run_step(ctx, STEP)


def test_clips_without_features_are_left_out_and_counted(ctx, logged):
    splits = read_splits(ctx.path(SPLITS))
    bad = splits.loc[splits["split"] == "test", "clip_id"].iloc[0]
    index = read_json(ctx.path("features/index.json"))
    index["quarantine"] = [{"clip_id": bad, "reason": "unreadable", "detail": "no audio"}]
    write_json(ctx.path("features/index.json"), index)
    summary = run_step(ctx, STEP)
    n_test = int((splits["split"] == "test").sum())
    assert (summary["n"], summary["left_out"]) == (n_test - 1, 1)
    assert "1 test clips that gave no features" in ctx.path("reports/evaluation/index.html").read_text()


def test_variants_in_the_package_are_measured_and_refused_ones_are_told(ctx, logged):
    artifacts = ctx.path("models/package/artifacts")
    # A network that takes low for high.
    network = onnx.load(artifacts / "model.onnx")
    (weights,) = network.graph.initializer
    weights.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(weights), weights.name))
    onnx.save(network, artifacts / "int8.onnx")
    made = {"validation": 1.0, "loss": 0.0, "bytes": 900, "accepted": True, "serves": True}
    variants = {
        "float32": made,
        "int8": {**made, "bytes": 300, "serves": False},
        "pruned": {**made, "validation": 0.5, "loss": 0.5, "accepted": False, "serves": False},
    }
    run = read_json(ctx.path("models/run.json")) | {"variants": variants, "max_loss": 0.01}
    write_json(ctx.path("models/run.json"), run)
    run_step(ctx, STEP)
    metrics = read_json(ctx.path("reports/metrics.json"))
    found = metrics["variants"]
    assert found["float32"]["accuracy"] == metrics["test"]["accuracy"] == pytest.approx(10 / 12)
    assert found["int8"] == {
        "bytes": 300,
        "validation_accuracy": 1.0,
        "loss": 0.0,
        "multiply_adds": found["float32"]["multiply_adds"],
        "accuracy": pytest.approx(2 / 12),
        "accepted": True,
        "serves": False,
    }
    assert found["pruned"] == {
        "bytes": 900, "validation_accuracy": 0.5, "loss": 0.5, "accepted": False, "serves": False
    }  # fmt: skip
    (call,) = logged
    assert call["metrics"]["variants_int8/accuracy"] == pytest.approx(2 / 12)
    assert call["metrics"]["latency_p50_ms_int8"] > 0
    assert "latency_p50_ms_pruned" not in call["metrics"]
    assert "pruned is refused" in ctx.path("reports/evaluation/index.html").read_text()
