"""The study of a search, kept by Optuna: which values are tried next, and when a trial is given up.

The only module that imports optuna. A study is a journal in a file: what is in it survives any kill, and processes of
one machine, or of several on shared storage, add to it under a lock that the kernel drops with its holder. A trial is
locked too while it runs, so one whose process died is found and taken up again.
"""

from __future__ import annotations

import fcntl
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audioml.params import SpaceParams
from audioml.store.locks import hold_lock, try_exclusive
from audioml.training.seeds import derive_seed

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import Trial as OptunaTrial

STUDY, JOURNAL = "search", "journal.log"
MAX_STARTS = 3
"""Times that a trial is started before it counts as failed: one that exhausts the memory would stop all others."""
STARTUP_TRIALS = 5
"""Drawn at random before Optuna's sampler learns from them, and finished before the median gives up any."""
MIN_FOR_IMPORTANCE = 4
"""Finished trials before it is asked which key matters."""


class Pruned(Exception):  # noqa: N818, no error
    """A trial that is given up, as it is worse than the median of the others."""


@dataclass(frozen=True)
class Outcome:
    """A trial as it is kept."""

    number: int
    state: str
    """complete, pruned, fail, running."""
    value: float | None
    """Of the objective; of a pruned trial, the last one that it told."""
    values: dict[str, Any]
    """Of the keys that are searched, by path."""
    run_id: str = ""
    error: str = ""


class Trial:
    """One trial that this process has: its values, and what it tells of its course."""

    def __init__(self, study: Study, trial: OptunaTrial, space: Mapping[str, SpaceParams]) -> None:
        self._study, self._trial = study, trial
        self.number = int(trial.number)
        self.values = {path: _suggest(trial, path, section) for path, section in space.items()}
        frozen = study._storage.get_trial(trial._trial_id)
        self._told = set(frozen.intermediate_values)

    @property
    def run_id(self) -> str | None:
        """The MLflow run in which it began, if it did."""
        found: str | None = self._trial.user_attrs.get("run_id")
        return found

    def keep_run(self, run_id: str) -> None:
        """Keep the MLflow run with the trial."""
        self._trial.set_user_attr("run_id", run_id)

    def report(self, value: float, step: int) -> None:
        """Tell the objective at an epoch or fold; one that was told before a kill is not told again.

        Raises
        ------
        Pruned
            When the trial is to be given up.
        """
        if step in self._told:
            return
        self._told.add(step)
        self._trial.report(value, step)
        if self._trial.should_prune():
            raise Pruned

    def finish(self, value: float) -> None:
        """End it with the objective's value."""
        self._study.tell(self._trial, value)

    def prune(self) -> None:
        """End it as given up."""
        from optuna.trial import TrialState

        self._study.tell(self._trial, state=TrialState.PRUNED)

    def fail(self, error: str) -> None:
        """End it as failed."""
        from optuna.trial import TrialState

        self._trial.set_user_attr("error", error)
        self._study.tell(self._trial, state=TrialState.FAIL)


@dataclass(frozen=True)
class Search:
    """A study in a folder."""

    folder: Path
    space: Mapping[str, SpaceParams]
    maximize: bool
    warmup: int
    """Steps before a trial may be given up."""
    seed: int

    def begin(self, values: Mapping[str, Any]) -> None:
        """Make the study unless it is there. Its first trial is of these values where the space holds them."""
        with self._locked():
            study = self._open(0)
            if not study.trials and all(section.holds(values.get(path)) for path, section in self.space.items()):
                study.enqueue_trial({path: _encode(self.space[path], values[path]) for path in self.space})

    @contextmanager
    def take(self, trials: int) -> Iterator[Trial | None]:
        """Yield a trial that nobody works on: one whose process died, or the next one; None if all are done.

        Parameters
        ----------
        trials
            How many the study may have.
        """
        taken = None
        with self._locked():
            taken = self._find_abandoned() or self._ask(trials)
        if taken is None:
            yield None
            return
        trial, lock = taken
        try:
            yield trial
        finally:
            os.close(lock)

    def outcomes(self) -> list[Outcome]:
        """Return the trials that were started, by number."""
        found = []
        for trial in self._open(0).trials:
            state = trial.state.name.lower()
            if state == "waiting":
                continue
            steps = trial.intermediate_values
            value = trial.value if state == "complete" else (steps[max(steps)] if steps else None)
            values = {path: _decode(self.space[path], trial.params.get(path)) for path in self.space}
            attributes = trial.user_attrs
            found.append(
                Outcome(trial.number, state, value, values, attributes.get("run_id", ""), attributes.get("error", ""))
            )
        return found

    def importances(self) -> dict[str, float]:
        """Return how much of the differences between finished trials each key explains; empty if that is too few.

        By functional ANOVA (Hutter et al. 2014).
        """
        from optuna.importance import FanovaImportanceEvaluator, get_param_importances
        from optuna.trial import TrialState

        study = self._open(0)
        values = {trial.value for trial in study.get_trials(states=(TrialState.COMPLETE,))}
        if len(values) < MIN_FOR_IMPORTANCE:
            return {}
        found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=self.seed))
        return {str(path): float(share) for path, share in found.items()}

    def trial_folder(self, number: int) -> Path:
        """Return the folder for what a trial keeps while it runs."""
        return self.folder / "trials" / str(number)

    def _find_abandoned(self) -> tuple[Trial, int] | None:
        from optuna.trial import Trial as OptunaTrial
        from optuna.trial import TrialState

        study = self._open(0)
        for frozen in study.get_trials(states=(TrialState.RUNNING,)):
            lock = self._lock(frozen.number)
            if lock is None:
                continue
            trial = OptunaTrial(study, frozen._trial_id)
            starts = frozen.user_attrs.get("starts", 1)
            taken = Trial(study, trial, self.space)
            if starts >= MAX_STARTS:
                taken.fail(f"its process died {starts} times: killed from outside, or out of memory?")
                os.close(lock)
                continue
            trial.set_user_attr("starts", starts + 1)
            return taken, lock
        return None

    def _ask(self, trials: int) -> tuple[Trial, int] | None:
        from optuna.trial import TrialState

        study = self._open(0)
        number = len([trial for trial in study.trials if trial.state != TrialState.WAITING])
        if number >= trials:
            return None
        # Each draw has a seed of its own, so that a search that was stopped goes on as if it had not been.
        study = self._open(number)
        trial = study.ask()
        lock = self._lock(trial.number)
        assert lock is not None
        trial.set_user_attr("starts", 1)
        return Trial(study, trial, self.space), lock

    def _lock(self, number: int) -> int | None:
        """Lock a trial for as long as this process lives, or return None if another one has it."""
        folder = self.trial_folder(number)
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        if try_exclusive(descriptor):
            return descriptor
        os.close(descriptor)
        return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        with hold_lock(self.folder / "lock"):
            yield

    def _open(self, draw: int) -> Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
            return optuna.create_study(
                study_name=STUDY,
                storage=self._storage,
                direction="maximize" if self.maximize else "minimize",
                load_if_exists=True,
                sampler=optuna.samplers.TPESampler(
                    n_startup_trials=STARTUP_TRIALS,
                    seed=derive_seed(self.seed, "tune", draw) % 2**32,
                    constant_liar=True,
                ),
                pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS, n_warmup_steps=self.warmup),
            )

    @cached_property
    def _storage(self) -> Any:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        path = self.folder / JOURNAL
        return JournalStorage(JournalFileBackend(str(path), lock_obj=_JournalLock(path)))


class _JournalLock:
    """Optuna's lock of a journal, as one that the kernel drops with its holder."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._descriptor = -1

    def acquire(self) -> bool:
        """Wait for the journal; cut off what a killed process wrote in part."""
        self._descriptor = os.open(self._journal, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        written = self._journal.read_bytes()
        if written and not written.endswith(b"\n"):
            os.truncate(self._descriptor, written.rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Give it back."""
        os.close(self._descriptor)


def _suggest(trial: OptunaTrial, path: str, section: SpaceParams) -> Any:
    if section.choices is not None:
        return _decode(section, trial.suggest_categorical(path, [json.dumps(choice) for choice in section.choices]))
    low, high, step = section.low, section.high, section.step
    assert low is not None
    assert high is not None
    if isinstance(low, int) and isinstance(high, int) and (step is None or isinstance(step, int)):
        return trial.suggest_int(path, low, high, step=step or 1, log=section.log)
    return trial.suggest_float(path, low, high, step=step, log=section.log)


def _encode(section: SpaceParams, value: Any) -> Any:
    """Return a value as Optuna keeps it: a choice may be a list, which it does not take."""
    return value if section.choices is None else json.dumps(value)


def _decode(section: SpaceParams, value: Any) -> Any:
    return value if section.choices is None or value is None else json.loads(value)
