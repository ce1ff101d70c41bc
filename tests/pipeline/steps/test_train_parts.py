"""train with folds and shares: a model of each beside the one that is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from audioml.errors import StepError
from audioml.inference.predictor import Predictor
from audioml.params import PluginSection, SplitParams, load_params
from audioml.pipeline import packaging
from audioml.pipeline.context import Context
from audioml.pipeline.folding import assign_folds
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import collect_step, plan_step, work_item
from audioml.pipeline.steps import train
from audioml.pipeline.train_shares import assign_shares
from audioml.store.files import hash_file, read_json
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits, write_manifest, write_splits
from audioml.store.parts import PARTS, list_folds, read_outputs, splits_of

from ._train_space import make_workspace
from .test_train import Killed, Runs

STEP = find_step("train")


class PartRuns(Runs):
    parts: list[str]

    @contextmanager
    def training_run(self, ctx: Context, run_id: str | None = None, part: str = "") -> Iterator[Runs]:
        self.parts.append(part)
        with super().training_run(ctx, run_id) as runs:
            yield runs


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> PartRuns:
    runs = PartRuns()
    runs.parts = []
    monkeypatch.setattr("audioml.registry.runs.training_run", runs.training_run)
    # The final model is tested elsewhere; its export is what takes long.
    monkeypatch.setattr("audioml.registry.package.save_package", lambda folder, **parts: folder.mkdir(exist_ok=True))
    monkeypatch.setattr("audioml.training.export.export_onnx", lambda *_, **__: 0.0)
    monkeypatch.setattr(
        "audioml.pipeline.variants.tune_description", lambda ctx, features, description, onnx: description
    )
    return runs


@pytest.fixture
def nested(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    nested: dict[str, list[str]] = {}
    monkeypatch.setattr("audioml.registry.runs.nest_runs", lambda ctx, run, children: nested.update({run: children}))
    return nested


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    """The workspace of 30 clips, of three rooms in turn; the third one is the test set as well."""
    space = make_workspace(tmp_path, max_epochs=2)
    raw = yaml.safe_load((tmp_path / "params.yaml").read_text()) | {"split": {"folds": "room", "validation_share": 0.2}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(raw))
    manifest = read_manifest(space.path(MANIFEST)).assign(room=[f"room {'abc'[i // 2 % 3]}" for i in range(30)])
    write_manifest(space.path(MANIFEST), manifest)
    params = load_params(tmp_path)
    write_splits(space.path(SPLITS), assign_folds(manifest, params.split, params.seed))
    return Context.load(tmp_path)


@pytest.fixture
def shared(tmp_path: Path) -> Context:
    """The workspace of 20 clips to learn from, of which shares have 2 and 10; 5 clips are to validate on, 5 to test."""
    space = make_workspace(tmp_path, max_epochs=2)
    splits = read_splits(space.path(SPLITS))
    others = splits.index[splits["split"] == "validation"]
    splits.loc[others[::2], "split"] = "test"
    params = SplitParams(train_shares=[0.5, 0.1])
    write_splits(space.path(SPLITS), assign_shares(read_manifest(space.path(MANIFEST)), splits, params, 0))
    return space


def work_all(ctx: Context) -> list[str]:
    items = [item.id for item in plan_step(ctx, STEP)]
    for item in items:
        work_item(ctx, STEP, item)
    return items


def test_each_fold_is_learned_from_the_others_and_judged_on_itself(
    ctx: Context,
    runs: PartRuns,
    nested: dict[str, list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[pd.DataFrame] = []
    from audioml.training import fit as fitting

    original = fitting.fit
    monkeypatch.setattr(fitting, "fit", lambda *a: seen.append(a[3]) or original(*a))
    items = work_all(ctx)
    assert items[0] == "fit"
    assert len(items) == 4
    assert runs.parts == ["", "fold room a", "fold room b", "fold room c"]
    summary = collect_step(ctx, STEP)
    assert summary["folds"] == 3
    manifest, splits = read_manifest(ctx.path(MANIFEST)), read_splits(ctx.path(SPLITS))
    for fold, learned in zip(list_folds(splits), seen[1:], strict=True):
        own = manifest.loc[manifest["room"] == fold.name, "clip_id"]
        assert not set(own) & set(learned.loc[learned["split"] != "test", "clip_id"])
    held_out, outputs = read_outputs(ctx.path(PARTS), "fold")
    assert sorted(held_out["clip_id"]) == sorted(manifest["clip_id"])
    joined = held_out.merge(manifest, on="clip_id")
    assert joined["name"].tolist() == joined["room"].tolist()
    np.testing.assert_allclose(np.stack(outputs).sum(axis=1), 1, rtol=1e-5)
    run = read_json(ctx.path("models/run.json"))
    assert [fold["name"] for fold in run["folds"]] == ["room a", "room b", "room c"]
    assert nested == {run["run_id"]: [fold["run_id"] for fold in run["folds"]]}
    # The metric that was logged is that of the outputs that were kept.
    right = np.stack(outputs).argmax(axis=1) == (joined["label"] == "low")
    of_fold = right.groupby(joined["room"]).mean()
    assert [fold["metrics"]["fold_accuracy"] for fold in run["folds"]] == pytest.approx(of_fold.tolist())


def test_a_share_is_learned_from_its_clips_and_judged_on_the_test_clips(
    shared: Context, runs: PartRuns, nested: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[pd.DataFrame] = []
    from audioml.training import fit as fitting

    original = fitting.fit
    monkeypatch.setattr(fitting, "fit", lambda *a: seen.append(a[3]) or original(*a))
    items = plan_step(shared, STEP)[1:]
    assert [(item.id, item.label, item.clips) for item in items] == [
        ("share-0.1", "share 0.1: 2 clips to train on", 2),
        ("share-0.5", "share 0.5: 10 clips to train on", 10),
    ]
    work_all(shared)
    assert runs.parts == ["", "share 0.1", "share 0.5"]
    assert collect_step(shared, STEP)["shares"] == 2
    splits = read_splits(shared.path(SPLITS))
    by_split = [{name: set(own["clip_id"]) for name, own in learned.groupby("split")} for learned in seen]
    everything, tenth, half = (parts.pop("train") for parts in by_split)
    assert tenth < half < everything
    assert half == set(splits.loc[splits["share"] <= 0.5, "clip_id"])
    # What each model is validated and judged on is the same.
    assert by_split[0] == by_split[1] == by_split[2]
    judged, outputs = read_outputs(shared.path(PARTS), "share")
    assert judged["name"].tolist() == ["0.1"] * 5 + ["0.5"] * 5
    assert set(judged["clip_id"]) == by_split[0]["test"]
    run = read_json(shared.path("models/run.json"))
    # As many steps as the final model has in its two epochs.
    assert [share["epochs"] for share in run["shares"]] == [20, 4]
    assert nested == {run["run_id"]: [share["run_id"] for share in run["shares"]]}
    joined = judged.merge(read_manifest(shared.path(MANIFEST)), on="clip_id")
    right = np.stack(outputs).argmax(axis=1) == (joined["label"] == "low")
    assert [share["metrics"]["share_accuracy"] for share in run["shares"]] == pytest.approx(
        right.groupby(joined["name"]).mean().tolist()
    )
    # Of the shares no weights are kept.
    assert len({path.parent for path in (shared.state / "training").rglob("*.ckpt")}) == 1


def test_a_killed_share_alone_is_fitted_again(shared: Context, runs: PartRuns, nested: Any) -> None:
    items = [item.id for item in plan_step(shared, STEP)]
    for item in items[:2]:
        work_item(shared, STEP, item)
    runs.kill_at_epoch = 2
    with pytest.raises(Killed):
        work_item(shared, STEP, items[2])
    runs.kill_at_epoch = None
    with pytest.raises(StepError, match=r"share '0.5' is not trained. Run: audioml run train"):
        collect_step(shared, STEP)
    work_all(shared)
    assert runs.opened == ["run0", "run1", "run2", "run2"]


def test_a_fold_is_calibrated_on_its_own_validation_clips(
    ctx: Context, runs: PartRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[int]] = []

    def fit_temperature(predictor: Predictor, raw: Any, clip_of: Any, truth: Any) -> float:
        given.append(truth.tolist())
        return 1000.0

    monkeypatch.setattr(packaging, "fit_temperature", fit_temperature)
    item = plan_step(ctx, STEP)[1]
    work_item(ctx, STEP, item.id)
    manifest, splits = read_manifest(ctx.path(MANIFEST)), read_splits(ctx.path(SPLITS))
    learned = splits_of(splits, list_folds(splits)[0])
    validation = manifest["clip_id"].isin(learned.loc[learned["split"] == "validation", "clip_id"])
    assert given == [(manifest.loc[validation, "label"] == "low").astype(int).tolist()]
    (path,) = (ctx.state / "training").rglob(train.STATE_OUTPUTS)
    np.testing.assert_allclose(np.stack(read_outputs(path, "fold")[1]), 0.5, atol=0.01)


def test_pretrained_weights_of_a_fold_are_not_kept(
    ctx: Context, runs: PartRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = {"model": PluginSection(name="autoencoder", channels=[2], pretrain_epochs=1), "augment": []}
    ctx = replace(ctx, params=ctx.params.model_copy(update=update))
    item = plan_step(ctx, STEP)[1].id
    work_item(ctx, STEP, item)
    state = ctx.state / "training"
    assert [path.name for path in state.rglob("result.json")]
    assert not list(state.rglob("*.ckpt"))


def test_a_killed_fold_alone_is_fitted_again(ctx: Context, runs: PartRuns, nested: Any) -> None:
    items = [item.id for item in plan_step(ctx, STEP)]
    for item in items[:2]:
        work_item(ctx, STEP, item)
    runs.kill_at_epoch = 2
    with pytest.raises(Killed):
        work_item(ctx, STEP, items[2])
    runs.kill_at_epoch = None
    with pytest.raises(StepError, match=r"fold 'room b' is not trained. Run: audioml run train"):
        collect_step(ctx, STEP)
    work_all(ctx)
    # The killed one goes on in its own run; those that were done are not opened again.
    assert runs.opened == ["run0", "run1", "run2", "run2", "run4"]
    collect_step(ctx, STEP)
    before = hash_file(ctx.path(PARTS))
    work_all(ctx)
    # Nothing changed: only the final model is repeated, by a new run.
    assert runs.opened[5:] == ["run5"]
    collect_step(ctx, STEP)
    assert hash_file(ctx.path(PARTS)) == before


def test_a_change_of_one_fold_leaves_the_others(ctx: Context) -> None:
    splits = read_splits(ctx.path(SPLITS))
    folds = list_folds(splits)
    before = [train.fit_key(ctx, fold) for fold in folds]
    own = splits_of(splits, list_folds(splits)[0])
    row = own.index[own["split"] == "train"][0]
    splits.at[row, "validates"] = [*splits.at[row, "validates"], 0]
    write_splits(ctx.path(SPLITS), splits)
    after = [train.fit_key(ctx, fold) for fold in folds]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True, True]
