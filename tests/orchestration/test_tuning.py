"""audioml tune on a workspace of 30 clips; runs are told to a stand-in for the MLflow server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from audioml.errors import ParamsError, StepError
from audioml.orchestration import tuning
from audioml.params import load_params
from audioml.pipeline.context import Context
from audioml.pipeline.folding import assign_folds
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits, write_splits
from audioml.training.tracker import MemoryTracker

from ..pipeline.steps._train_space import make_workspace

RATES = {"training.learning_rate": {"choices": [2.0, 0.001]}}
"""The first one, which the workspace has, throws the weights about; the other one learns."""


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


class Run(MemoryTracker):
    run_id = "child"
    parts: list[tuple[str | None, str, str]]
    epochs: list[tuple[str, int]]
    kill_at: tuple[str, int] | None = None

    @contextmanager
    def training_run(self, ctx: Context, run_id: str | None, part: str, parent: str) -> Iterator[Run]:
        self.parts.append((run_id, part, parent))
        yield self

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        if (self.parts[-1][1], step) == self.kill_at:
            raise Killed
        self.epochs.append((self.parts[-1][1], step))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    run = Run()
    run.parts, run.epochs = [], []
    monkeypatch.setattr("audioml.registry.runs.training_run", run.training_run)
    monkeypatch.setattr("audioml.registry.runs.open_search_run", lambda ctx, run_id: run_id or "parent")
    monkeypatch.setattr("audioml.registry.runs.log_search", lambda *_: None)
    return run


def make(folder: Path, tune: dict[str, Any], split: dict[str, Any] | None = None, **training: Any) -> Context:
    make_workspace(folder, **{"max_epochs": 2, "warmup_epochs": 0, "learning_rate": 2.0} | training)
    path = folder / "params.yaml"
    raw = yaml.safe_load(path.read_text()) | {"tune": tune, "augment": []} | ({"split": split} if split else {})
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    return Context.load(folder)


def test_a_planted_optimum_is_found_and_written_back_with_comments(tmp_path: Path, run: Run) -> None:
    ctx = make(tmp_path, {"trials": 3, "metric": "loss", "space": RATES})
    path = ctx.path("params.yaml")
    path.write_text(path.read_text().replace("model:", "# Small enough for the microphones.\nmodel:"))
    found = tuning.run_tuning(ctx)
    assert found["best"]["values"] == {"training.learning_rate": 0.001}
    assert found["trials"][-1]["values"] == {"training.learning_rate": 2.0}
    # What the workspace has now is tried first, so that nothing worse can win.
    assert min(found["trials"], key=lambda t: t["number"])["values"] == {"training.learning_rate": 2.0}
    assert {part for _, part, _ in run.parts} == {"trial 0", "trial 1", "trial 2"}
    assert {parent for *_, parent in run.parts} == {"parent"}
    page = (tmp_path / "reports/tuning/index.html").read_text()
    assert "training.learning_rate=0.001" in page
    before = tuning.Tuning(ctx).folder
    tuning.write_winner(ctx, found["settings"])
    assert load_params(tmp_path).training.learning_rate == 0.001
    assert load_params(tmp_path).training.max_epochs == 2
    assert "# Small enough for the microphones.\nmodel:" in path.read_text()
    # The search is the same one: what it searches is no part of its name.
    assert tuning.Tuning(Context.load(tmp_path)).folder == before
    assert tuning.plan_tuning(Context.load(tmp_path)) == []


def test_a_killed_trial_goes_on_in_its_run_and_no_other_is_repeated(tmp_path: Path, run: Run) -> None:
    ctx = make(tmp_path, {"trials": 2, "space": RATES}, max_epochs=3)
    run.kill_at = ("trial 1", 2)
    with pytest.raises(Killed):
        tuning.run_tuning(ctx)
    run.kill_at = None
    assert tuning.plan_tuning(ctx) == ["1 of 1"]
    assert tuning.run_tuning(ctx)["complete"] == 2
    assert run.parts == [(None, "trial 0", "parent"), (None, "trial 1", "parent"), ("child", "trial 1", "parent")]
    # The first epoch of the killed trial was told again by the resumed fit, and trained once.
    assert [step for part, step in run.epochs if part == "trial 1"][:4] == [1, 1, 2, 3]


def test_a_bad_trial_is_given_up_early(tmp_path: Path, run: Run) -> None:
    ctx = make(tmp_path, {"trials": 8, "metric": "loss", "warmup_epochs": 1, "space": RATES}, max_epochs=4)
    found = tuning.run_tuning(ctx)
    assert found["pruned"] > 0
    pruned = [o for o in tuning.Tuning(ctx).search.outcomes() if o.state == "pruned"]
    assert all(o.values == {"training.learning_rate": 2.0} for o in pruned)
    of_pruned = [step for part, step in run.epochs if part == f"trial {pruned[0].number}"]
    assert max(of_pruned) < 4


def test_folds_judge_by_their_mean_and_leave_the_test_set_out(tmp_path: Path, run: Run, monkeypatch: Any) -> None:
    ctx = make(tmp_path, {"trials": 1, "folds": True, "space": RATES}, {"folds": 3}, max_epochs=1)
    manifest = read_manifest(ctx.path(MANIFEST))
    splits = assign_folds(manifest, ctx.params.split, ctx.params.seed)
    write_splits(ctx.path(SPLITS), splits)
    judged: list[tuple[set[str], float]] = []
    from audioml.pipeline import packaging

    original = packaging.judge_held_out

    def judge(*arguments: Any) -> Any:
        held_out = original(*arguments)
        judged.append((set(arguments[3]["clip_id"]), held_out.value))
        return held_out

    monkeypatch.setattr(packaging, "judge_held_out", judge)
    found = tuning.run_tuning(ctx)
    test = set(splits.loc[splits["split"] == "test", "clip_id"])
    assert len(judged) == 2
    assert all(not clips & test for clips, _ in judged)
    assert found["best"]["value"] == pytest.approx((judged[0][1] + judged[1][1]) / 2)


@pytest.mark.parametrize("folds", [False, True])
def test_trials_start_from_what_the_training_starts_from(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, folds: bool
) -> None:
    source, seen = tmp_path / "source.ckpt", []
    source.write_bytes(b"weights")

    def note(*arguments: Any) -> None:
        seen.append(arguments[-1])
        raise StepError("noted")

    monkeypatch.setattr("audioml.training.fit.fit", note)
    ctx = make(tmp_path / "own", {"trials": 1, "space": RATES, "folds": folds}, init_from=str(source))
    if folds:
        splits = read_splits(ctx.path(SPLITS)).assign(fold=0, fold_name="a", validates=[[] for _ in range(30)])
        write_splits(ctx.path(SPLITS), splits)
    with pytest.raises(StepError, match="noted"):
        tuning.run_tuning(ctx)
    assert seen == [source]
    before = tuning.Tuning(ctx).folder
    source.write_bytes(b"others")
    tuning.plan_tuning(ctx)
    assert tuning.Tuning(ctx).folder != before


def test_a_trial_that_cannot_be_trained_fails_alone(tmp_path: Path, run: Run) -> None:
    splits_kept = {"trials": 2, "space": {"model.width": {"choices": [8, 16]}}}
    ctx = make(tmp_path, splits_kept, max_epochs=1)
    splits = read_splits(ctx.path(SPLITS))
    write_splits(ctx.path(SPLITS), splits.assign(split="train"))
    with pytest.raises(StepError, match=r"No trial was finished. The split 'validation' has no clips"):
        tuning.run_tuning(ctx)


@pytest.mark.parametrize(
    ("tune", "words"),
    [
        ({}, "'tune.space' is empty"),
        ({"space": {"features.n_mels": {"choices": [32, 64]}}}, "only keys in model, augment, training, task"),
        ({"space": {"training.devices": {"choices": [1, 2]}}}, "where a training runs"),
        ({"space": {"training.init_from": {"choices": ["a@b", "c@d"]}}}, "or starts from"),
        ({"space": {"training.learning_rat": {"low": 0.1, "high": 0.2}}}, "Did you mean 'learning_rate'"),
        ({"space": {"training.batch_size": {"low": 0, "high": 8}}}, "greater than or equal to 2"),
        ({"space": {"training.learning_rate": {"low": 0.1}}}, "write {low: A, high: B}"),
        ({"space": {"training.learning_rate": {"low": 0, "high": 1.0, "log": True}}}, "log needs low above 0"),
        ({"space": RATES, "folds": True}, "there are no folds"),
        ({"space": RATES, "folds": True, "metric": "loss"}, "folds are judged by the primary metric"),
        (
            {"space": {"task.label_smoothing": {"low": 0.0, "high": 0.2}}, "metric": "loss"},
            "may change what the loss measures",
        ),
    ],
)
def test_errors(tmp_path: Path, run: Run, tune: dict[str, Any], words: str) -> None:
    with pytest.raises(ParamsError) as caught:
        tuning.plan_tuning(make(tmp_path, tune))
    assert words in str(caught.value), str(caught.value)
