"""The DVC driver: steps to dvc.yaml, what would run and why, and recording what another runner made.

The only module that imports dvc. One process at a time writes to a workspace's DVC state, so every call
waits for DVC's lock instead of failing on it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from audioml.errors import StepError
from audioml.params import FILE_NAME, Params
from audioml.pipeline.context import STATE_DIR, Context
from audioml.pipeline.fingerprint import is_unchanged
from audioml.pipeline.graph import STEPS, downstream
from audioml.pipeline.step import Output, Step
from audioml.store.files import read_json
from audioml.store.withdrawn import WITHDRAWN

CODE_LINK = f"{STATE_DIR}/code"
SOURCE = "${data.source}"
LISTED = "the source is listed on each run"
"""Why `ingest` runs when its source is a URL, or ingested by partition."""
REMOTE = f"{STATE_DIR}/dvc-remote"
RUNNING = ".dvc/tmp/rwlock"
"""Where DVC notes which of its processes write what; one that was killed leaves its note."""
HEADER = """\
# The pipeline as DVC stages, rendered from audioml's graph of steps by `audioml render`.
# `dvc repro` runs what changed; `audioml plan` says what that is, and why.
"""
PLOTS: list[dict[str, dict[str, Any]]] = [
    {
        "reports/plots/confusion.csv": {
            "x": "actual",
            "y": "predicted",
            "template": "confusion_normalized",
            "title": "Confusion on the test set",
        }
    },
    {"reports/plots/history.csv": {"x": "epoch", "y": ["train_loss", "val_loss"], "title": "Loss by epoch"}},
    {
        "reports/plots/per_label.csv": {
            "x": "f1",
            "y": "label",
            "template": "bar_horizontal",
            "title": "F1 by label on the test set",
        }
    },
]


@dataclass(frozen=True)
class Decision:
    """Whether a step would run, and why."""

    step: str
    run: bool
    reasons: tuple[str, ...]
    """One line a cause; for a step that is up to date, the one line that says so."""


def render_dvc_yaml(params: Params, withdrawn: bool = False) -> str:
    """Return the text of dvc.yaml for a workspace with these params.

    With `withdrawn`, the list of withdrawn recordings is an input of `ingest`. DVC has no inputs that may be missing,
    and a workspace from which nothing was withdrawn has no such list.

    Names of plug-ins and the source stay ``${...}`` templates, which DVC fills from params.yaml, so that
    another model or folder needs no new rendering. A source at a URL is no input: DVC would copy it whole to
    hash it. Nor is one that is ingested by partition: after one of them DVC would take all of it as ingested.
    Instead `ingest` runs each time, which costs a listing where nothing changed.
    """
    document = {"stages": {step.name: _render_stage(step, params, withdrawn) for step in STEPS}, "plots": PLOTS}
    text = yaml.safe_dump(document, sort_keys=False, width=110, allow_unicode=True)
    return HEADER + text.replace("\n  validate:", "\n\n  validate:")


def render_workspace(ctx: Context) -> str:
    """Return the text of dvc.yaml for a workspace as it is."""
    return render_dvc_yaml(ctx.params, ctx.path(WITHDRAWN).exists())


def check_rendering(ctx: Context) -> None:
    """Raise when the workspace's dvc.yaml is not what its params render to.

    Raises
    ------
    StepError
        With the command that renders it anew.
    """
    path = ctx.path("dvc.yaml")
    if not path.exists() or path.read_text(encoding="utf-8") != render_workspace(ctx):
        raise StepError(
            f"{path} is not what this version of audioml renders for {FILE_NAME}. Write it anew with: audioml render"
        )


def decide(ctx: Context, only: Step | None = None) -> list[Decision]:
    """Say which steps would run and why: which input, param, code or output changed.

    With `only`, the decision on that step as things stand now. Without, on all steps in order, where a step
    after one that runs is named as running too: DVC decides anew once its inputs are made. No step is to run where the
    context is that of a partition without a folder.
    """
    check_rendering(ctx)
    if ctx.partition is not None:
        from audioml.pipeline.ingest_listing import explain_empty

        if empty := explain_empty(ctx, ctx.params.data):
            return [Decision(step.name, False, (empty,)) for step in ([only] if only else STEPS)]
    decisions: dict[str, Decision] = {}
    with _repository(ctx) as repo:
        for step in [only] if only else STEPS:
            reasons = tuple(_explain(ctx, step, repo.status(targets=[step.name])))
            if not reasons and not only:
                # What a listing alone may find is not foreseen.
                running = [d for d in decisions.values() if d.run and d.reasons != (LISTED,)]
                runs = [d.step for d in running if step.name in downstream(d.step)]
                reasons = (f"{runs[-1]} runs before it",) if runs else ()
            decisions[step.name] = Decision(
                step.name, bool(reasons), reasons or ("up to date: inputs, params and code are as dvc.lock has them",)
            )
    return list(decisions.values())


def restore_step(ctx: Context, step: Step) -> bool:
    """Bring a step's outputs back from DVC's run cache if the same inputs, params and code made them before.

    Returns True if they were restored and recorded. Outputs that grow are not in the run cache.
    """
    from dvc.repo import lock_repo
    from dvc.stage.cache import RunCacheNotFoundError

    check_rendering(ctx)
    with _repository(ctx) as repo, lock_repo(repo):
        stage = repo.stage.load_one(path="dvc.yaml", name=step.name)
        try:
            repo.stage_cache.restore(stage)
        except (RunCacheNotFoundError, FileNotFoundError):
            return False
    record_step(ctx, step)
    return True


def record_step(ctx: Context, step: Step) -> None:
    """Record a step that ran outside `dvc repro`: dvc.lock, DVC's cache and its run cache.

    Raises
    ------
    StepError
        When one of the step's outputs is missing, or its params or code changed since it started.
    """
    check_rendering(ctx)
    if not is_unchanged(ctx, step):
        raise StepError(
            f"{step.name}: its params or its code changed while it ran, so its outputs are those of neither. "
            f"Run it again: audioml run {step.name}"
        )
    for output in step.outputs:
        if not ctx.path(output.path).exists():
            raise StepError(
                f"{step.name}: its output {output.path} is missing, so there is nothing to record. "
                f"Make it with: audioml run {step.name}"
            )
    with _repository(ctx) as repo:
        repo.commit(step.name, force=True)


def find_repro(ctx: Context) -> int | None:
    """Return the id of a process of DVC's that is running a stage of the workspace now, if there is one."""
    path = ctx.path(RUNNING)
    writers = read_json(path).get("write", {}) if path.exists() else {}
    return next((entry["pid"] for entry in writers.values() if psutil.pid_exists(entry["pid"])), None)


def init_dvc(workspace: Path) -> None:
    """Initialise DVC in a folder that is the top of a git repository, with a local folder as remote."""
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)
    # DVC writes a relative URL, so that the workspace can move, if it is given one from the current folder.
    with chdir(workspace), Repo.init() as repo, repo.config.edit("repo") as config:
        config["core"]["analytics"] = False
        config["core"]["remote"] = "local"
        config["remote"]["local"] = {"url": REMOTE}


def _render_stage(step: Step, params: Params, withdrawn: bool) -> dict[str, Any]:
    listed = params.data.is_remote or params.data.partition is not None
    watched = params.data.source is not None and not listed
    inputs = [i for i in step.inputs if i != SOURCE or watched]
    inputs += [WITHDRAWN] if withdrawn and SOURCE in step.inputs else []
    stage: dict[str, Any] = {
        "desc": step.summary,
        "cmd": f"audioml run {step.name}",
        "deps": [*inputs, *(f"{CODE_LINK}/{path}" for path in step.code)],
        "params": list(step.params),
    }
    if SOURCE in step.inputs and listed:
        stage["always_changed"] = True
    for key, kinds in (("outs", ("data", "small", "plots")), ("metrics", ("metrics",))):
        outputs = [_render_output(o) for o in step.outputs if o.kind in kinds]
        if outputs:
            stage[key] = outputs
    return stage


def _render_output(output: Output) -> str | dict[str, dict[str, bool]]:
    options: dict[str, bool] = {}
    if output.kind in ("small", "metrics"):
        options["cache"] = False
    if output.persist:
        options["persist"] = True
    return {output.path: options} if options else output.path


def _explain(ctx: Context, step: Step, status: dict[str, Any]) -> Iterator[str]:
    if step.name not in ctx.read_lock():
        yield "no run of it is recorded"
        return
    for change in (change for changes in status.values() for change in changes):
        if isinstance(change, str):
            yield LISTED if change == "always changed" else change
            continue
        for path, state in change.get("changed deps", {}).items():
            if isinstance(state, dict):
                yield from _explain_params(ctx, step)
            elif path.startswith(CODE_LINK):
                yield f"code {state}: {path.removeprefix(CODE_LINK + '/')}"
            else:
                yield f"input {state}: {path}"
        for path, state in change.get("changed outs", {}).items():
            yield f"output {state}: {path}"


def _explain_params(ctx: Context, step: Step) -> Iterator[str]:
    now = yaml.safe_load(ctx.path(FILE_NAME).read_text(encoding="utf-8"))
    before = ctx.read_lock()[step.name].get("params", {}).get(FILE_NAME, {})
    for section in step.params:
        old, new = dict(_flatten(section, before.get(section))), dict(_flatten(section, now.get(section)))
        for key in sorted(old.keys() | new.keys()):
            if old.get(key) != new.get(key):
                yield f"param {key}: {old.get(key)!r} -> {new.get(key)!r}"


def _flatten(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flatten(f"{prefix}.{key}", inner)
    elif isinstance(value, list) and any(isinstance(v, dict) for v in value):
        for index, inner in enumerate(value):
            yield from _flatten(f"{prefix}.{index}", inner)
    else:
        yield prefix, value


@contextmanager
def _repository(ctx: Context) -> Iterator[Any]:
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo

    try:
        # DVC resolves some paths, the run cache's among them, from the current folder.
        with chdir(ctx.workspace), Repo(_wait_for_lock=True) as repo:
            yield repo
    except NotDvcRepoError:
        raise StepError(f"{ctx.workspace} has no .dvc folder. Make one there with: dvc init") from None
    except DvcException as error:
        raise StepError(f"DVC: {error}") from error
