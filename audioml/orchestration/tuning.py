"""Search for params: trials that train like the model, on the clips that it is trained on, and no others.

`.audioml/tune/<key>/` keeps a study; the key is a hash of the data, of all params that the search leaves alone, and of
what is searched. So a search that was stopped goes on, as does one whose winner was written into params.yaml, and one
of other data is another search. The test set has no part in it.
"""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from audioml.errors import AudiomlError, ParamsError, ServiceError, StepError
from audioml.orchestration.overrides import apply_overrides, override_file
from audioml.orchestration.params_file import render_params
from audioml.orchestration.search import Outcome, Pruned, Search, Trial
from audioml.params import FILE_NAME, SEARCHED, Params, parse_params, read_raw_params
from audioml.pipeline.commands import Command, run_commands
from audioml.pipeline.context import Context
from audioml.pipeline.transfer_source import look_up_source, read_source, source_path
from audioml.plugins import load_plugin
from audioml.store.features import INDEX, open_features
from audioml.store.files import hash_file, hash_json, read_json, write_folder_atomic, write_json, write_text
from audioml.store.manifest import MANIFEST, SPLITS, read_manifest, read_splits
from audioml.store.parts import list_folds, splits_of
from audioml.tasks._outputs import primary_of

FEATURES, REPORT = "features", "reports/tuning"
FOLDER, STARTED = "tune", "started.json"
"""In the state folder; in a study's folder, what it was started with."""


@dataclass(frozen=True)
class Tuning:
    """The search that a workspace's params describe, with the data as it is now."""

    ctx: Context

    @cached_property
    def raw(self) -> dict[str, Any]:
        """All params as a mapping, defaults filled in."""
        return read_raw_params(self.ctx.path(FILE_NAME))

    @cached_property
    def folder(self) -> Path:
        """The folder of the study."""
        complete: dict[str, Any] = yaml.safe_load(render_params(self.raw))
        rest = copy.deepcopy({name: complete[name] for name in ("seed", *SEARCHED)})
        for path in self.ctx.params.tune.space:
            _blank(rest, path)
        tune = self.ctx.params.tune.model_dump(mode="json", include={"space", "metric", "folds"})
        inputs = {path: hash_file(self.ctx.path(path)) for path in (MANIFEST, SPLITS, f"{FEATURES}/{INDEX}")}
        hashed = {"params": rest, "tune": tune, "inputs": inputs}
        if source := read_source(self.ctx, self.ctx.state / FOLDER):
            hashed["source"] = source["sha256"]
        return self.ctx.state / FOLDER / hash_json(hashed)[:16]

    @cached_property
    def search(self) -> Search:
        """The study."""
        tune = self.ctx.params.tune
        warmup = 0 if tune.folds else tune.warmup_epochs
        return Search(self.folder, tune.space, self.maximize, warmup, self.ctx.params.seed)

    @cached_property
    def task(self) -> Any:
        """The task's plug-in."""
        return load_plugin("tasks", self.ctx.params.task.name)

    @property
    def primary(self) -> str:
        """Name of the task's metric."""
        return primary_of(self.task, self.ctx.params.plugin_section("tasks"))

    @property
    def maximize(self) -> bool:
        """Whether more is better."""
        return self.ctx.params.tune.metric == "primary" and bool(getattr(self.task, "HIGHER_IS_BETTER", True))

    @property
    def metric(self) -> str:
        """What a trial is judged by, as an epoch of the history names it."""
        return f"val_{self.primary}" if self.ctx.params.tune.metric == "primary" else "val_loss"

    def params_of(self, values: Mapping[str, Any]) -> Params:
        """Return the params of a trial: on one device, as further processes would start the search again."""
        params = parse_params(apply_overrides(self.raw, settings_of(values)))
        return params.model_copy(update={"training": params.training.model_copy(update={"devices": 1})})


def plan_tuning(ctx: Context, trials: int | None = None) -> list[str]:
    """Begin the search, or go on with it; return a name for each trial that is left, not knowing which it will be.

    Raises
    ------
    ParamsError
        When nothing is to be searched, a path or a value of it is not valid, or folds are missing.
    StepError, StoreError
        When there are no features yet, or a shard is damaged.
    RegistryError
        When `training.init_from` names no version that there is.
    """
    from audioml.registry.runs import open_search_run

    tune = ctx.params.tune
    if not tune.space:
        raise ParamsError(
            f"{FILE_NAME}: 'tune.space' is empty, so there is nothing to search. Write for example:\n"
            "tune:\n  space:\n    training.learning_rate: {low: 0.001, high: 0.03, log: true}"
        )
    if ctx.params.training.num_nodes > 1:
        raise ParamsError("A trial trains on one host, but training.num_nodes is more. Set it to 1 for the search.")
    for path, step in ((MANIFEST, "ingest"), (SPLITS, "split"), (f"{FEATURES}/{INDEX}", "featurize")):
        ctx.require(path, step)
    if tune.folds and not list_folds(read_splits(ctx.path(SPLITS))):
        raise ParamsError("'tune.folds' is true, but there are no folds. Set split.folds, then: audioml run split")
    # Once for all trials.
    open_features(ctx.path(FEATURES), verify=True)
    look_up_source(ctx, ctx.state / FOLDER)
    tuning = Tuning(ctx)
    for which in (0, -1):
        tuning.params_of({path: (s.choices or [s.low, s.high])[which] for path, s in tune.space.items()})
    started, trials = tuning.folder / STARTED, trials or tune.trials
    former = read_json(started) if started.exists() else {}
    complete: dict[str, Any] = yaml.safe_load(render_params(tuning.raw))
    tuning.search.begin({path: _look_up(complete, path) for path in tune.space})
    until = None if tune.timeout_h is None else time.time() + 3600 * tune.timeout_h
    run_id = open_search_run(ctx, former.get("run_id"))
    write_json(started, {"run_id": run_id, "trials": trials, "until": until})
    left = trials - sum(outcome.state != "running" for outcome in tuning.search.outcomes())
    return [f"{i + 1} of {left}" for i in range(left)]


def work_tuning(ctx: Context) -> dict[str, Any] | None:
    """Do the next trial; None where none is left, or time is up.

    A trial that fails for what it is (it diverges, its values do not go together) is a failed trial, not an error.
    """
    from audioml.pipeline.steps.train import let_threads_sleep

    let_threads_sleep()
    tuning = Tuning(ctx)
    path = tuning.folder / STARTED
    if not path.exists():
        raise StepError("There is no search of these params and data yet. Start it with: audioml tune")
    started = read_json(path)
    if started["until"] is not None and time.time() > started["until"]:
        return None
    with tuning.search.take(started["trials"]) as trial:
        if trial is None:
            return None
        try:
            value = _run_trial(tuning, trial, started["run_id"])
        except ServiceError:
            raise
        except AudiomlError as error:
            trial.fail(str(error))
            answer = {"trial": trial.number, "state": "fail", **trial.values, "error": str(error)}
        else:
            if value is None:
                trial.prune()
            else:
                trial.finish(value)
            state = "pruned" if value is None else "complete"
            answer = {"trial": trial.number, "state": state, "value": value, **trial.values}
        for left in tuning.search.trial_folder(trial.number).iterdir():
            if left.name != "lock":
                shutil.rmtree(left) if left.is_dir() else left.unlink()
    return answer


def run_tuning(ctx: Context, trials: int | None = None, jobs: int | None = None) -> dict[str, Any]:
    """Begin the search or go on with it, do all trials that are left, `jobs` at a time, and report.

    Raises
    ------
    ParamsError, StepError
        As `plan_tuning` and `report_tuning`.
    """
    left = plan_tuning(ctx, trials)
    jobs = min(jobs or ctx.params.tune.jobs, len(left))
    if jobs > 1:
        run_commands(ctx, "tune", [Command(name, f"trial {name}", ("tune", "--next")) for name in left], jobs)
    else:
        while left and work_tuning(ctx) is not None:
            pass
    return report_tuning(ctx)


def report_tuning(ctx: Context) -> dict[str, Any]:
    """Write the comparison of all trials to reports/tuning and MLflow; return the best trials and their settings.

    Raises
    ------
    StepError
        When no trial was finished.
    """
    from audioml.evaluation.tuning import draw_search, render_search
    from audioml.registry.runs import log_search

    tuning = Tuning(ctx)
    outcomes = tuning.search.outcomes()
    ranked = rank(outcomes, tuning.maximize)
    if not ranked:
        errors = [outcome.error for outcome in outcomes if outcome.error]
        raise StepError(f"No trial was finished. {errors[0] if errors else 'Start the search with: audioml tune'}")
    best, importances = ranked[0], tuning.search.importances()
    rows = [asdict(outcome) for outcome in outcomes]
    name = f"{tuning.primary}, mean over folds" if ctx.params.tune.folds else tuning.metric
    figure = draw_search(rows, tuning.maximize, name, ctx.params.tune.space, importances)
    with write_folder_atomic(ctx.path(REPORT)) as folder:
        page = render_search(ctx.params.name, rows, ranked[0].number, name, figure, settings_of(best.values))
        (folder / "index.html").write_text(page, encoding="utf-8")
    run_id = read_json(tuning.folder / STARTED)["run_id"]
    states = {state: sum(o.state == state for o in outcomes) for state in ("complete", "pruned", "fail")}
    metrics = {"best_value": best.value or 0.0, "best_trial": best.number, **states}
    log_search(ctx, run_id, metrics, {"search": figure}, ctx.path(REPORT))
    return {
        "metric": name,
        "best": asdict(best),
        "settings": settings_of(best.values),
        **states,
        "importances": importances,
        "trials": [asdict(outcome) for outcome in ranked],
        "run_id": run_id,
    }


def write_winner(ctx: Context, settings: list[str]) -> Path:
    """Write settings into params.yaml; sections that they don't change stay as they are, comments and all."""
    path = ctx.path(FILE_NAME)
    write_text(path.resolve(), override_file(path, settings))
    return path


def rank(outcomes: list[Outcome], maximize: bool) -> list[Outcome]:
    """Return finished trials, the best first, the earlier of equals."""
    finished = [outcome for outcome in outcomes if outcome.state == "complete" and outcome.value is not None]
    return sorted(finished, key=lambda o: (-(o.value or 0.0) if maximize else (o.value or 0.0), o.number))


def settings_of(values: Mapping[str, Any]) -> list[str]:
    """Return values by path as settings, as `audioml.orchestration.overrides` reads them."""
    return [
        f"{path}={yaml.safe_dump([value], default_flow_style=True, width=10_000).strip()[1:-1]}"
        for path, value in values.items()
    ]


class _TrialTracker:
    """Tells MLflow of each epoch, and the study, which may give the trial up."""

    def __init__(self, run: Any, trial: Trial, metric: str) -> None:
        self._run, self._trial, self._metric = run, trial, metric

    def log_params(self, params: Mapping[str, Any]) -> None:
        self._run.log_params(params)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self._run.log_metrics(metrics, step)
        if self._metric in metrics:
            self._trial.report(metrics[self._metric], step)


def _run_trial(tuning: Tuning, trial: Trial, parent: str) -> float | None:
    """Train and return what the trial is judged by, or None if it was given up."""
    from audioml.registry.runs import training_run
    from audioml.training.devices import lease_until_exit
    from audioml.training.network import is_fitted
    from audioml.training.world import find_world

    ctx = replace(tuning.ctx, params=tuning.params_of(trial.values))
    training = ctx.params.training
    if training.accelerator != "cpu" and not is_fitted(ctx.params):
        lease_until_exit(1, group=find_world().device_group, share=training.share_devices)
    with training_run(ctx, trial.run_id, f"trial {trial.number}", parent) as run:
        trial.keep_run(run.run_id)
        judge = _judge_by_folds if ctx.params.tune.folds else _judge
        try:
            value = judge(tuning, ctx, trial, run)
        except Pruned:
            return None
        run.log_metrics({"objective": value}, step=0)
    return value


def _judge(tuning: Tuning, ctx: Context, trial: Trial, run: Any) -> float:
    """Return the metric of the best epoch on validation clips."""
    from audioml.training.fit import fit

    tracker = _TrialTracker(run, trial, tuning.metric)
    features, manifest = open_features(ctx.path(FEATURES)), read_manifest(ctx.path(MANIFEST))
    state = tuning.search.trial_folder(trial.number) / "fit"
    source = source_path(ctx, ctx.state / FOLDER)
    result = fit(
        ctx.params.located(ctx.workspace), features, manifest, read_splits(ctx.path(SPLITS)), state, tracker, source
    )
    return float(result.best[tuning.metric])


def _judge_by_folds(tuning: Tuning, ctx: Context, trial: Trial, run: Any) -> float:
    """Return the mean of the folds' metrics on held-out clips; folds that hold the test set are left out."""
    from audioml.pipeline.packaging import judge_held_out
    from audioml.training.fit import fit

    features, manifest = open_features(ctx.path(FEATURES)), read_manifest(ctx.path(MANIFEST))
    splits = read_splits(ctx.path(SPLITS))
    splits, source = splits[splits["split"] != "test"], source_path(ctx, ctx.state / FOLDER)
    values: list[float] = []
    for fold in list_folds(splits):
        state = tuning.search.trial_folder(trial.number) / fold.item
        kept = state / "value.json"
        if not kept.exists():
            of_fold = splits_of(splits, fold)
            result = fit(
                ctx.params.located(ctx.workspace), features, manifest, of_fold, state, _Prefixed(run, fold.name), source
            )
            write_json(kept, judge_held_out(ctx, features, manifest, of_fold, result).value)
        values.append(read_json(kept))
        trial.report(sum(values) / len(values), len(values))
    return sum(values) / len(values)


class _Prefixed:
    """A run to which the epochs of one fold are told under the fold's name."""

    def __init__(self, run: Any, name: str) -> None:
        self._run, self._name = run, name

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Leave them out: each fold has its own."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        self._run.log_metrics({f"{self._name}/{name}": value for name, value in metrics.items()}, step)


def _blank(tree: Any, path: str) -> None:
    *parents, last = path.split(".")
    for part in parents:
        tree = tree[int(part)] if isinstance(tree, list) else tree.get(part) or {}
    if isinstance(tree, dict):
        tree[last] = None


def _look_up(tree: Any, path: str) -> Any:
    for part in path.split("."):
        if isinstance(tree, list):
            tree = tree[int(part)] if part.isdecimal() and int(part) < len(tree) else None
        else:
            tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
