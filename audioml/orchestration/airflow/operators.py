"""The Airflow operators of a step: each runs a part of `audioml run STEP` in a fresh child process.

Nothing heavy is imported here or in an Airflow task's own process: Airflow forks it, and torch does not
survive forks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from audioml.orchestration.child import USER_ERROR, ChildError, run_child

MAX_MAPPED = 1000
"""Mapped Airflow tasks of one step; Airflow's own limit is 1024. More items than that share Airflow tasks."""


def command(*arguments: str) -> list[str]:
    """Return the command line of audioml; `-P` keeps the workspace's files from hiding modules."""
    return [sys.executable, "-P", "-m", "audioml", *arguments]


class StepOperator(BaseOperator):  # type: ignore[misc]
    """Base: a part of one step of one workspace."""

    ui_color = "#e8f1fa"

    def __init__(self, *, step: str, workspace: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.workspace = workspace
        self._child: subprocess.Popen[str] | None = None

    def run_audioml(self, *arguments: str, capture: bool = False, one_thread: bool = False) -> str:
        """Run audioml in the workspace, its output in the Airflow task's log.

        Raises
        ------
        AirflowFailException
            On an error that trying again does not mend.
        AirflowException
            When the child was killed or broke down.
        """
        from audioml.pipeline.runner import ONE_THREAD

        try:
            return run_child(
                command(*arguments),
                Path(self.workspace),
                self.log.info,
                environment=ONE_THREAD if one_thread else None,
                capture=capture,
                on_start=self._keep_child,
            )
        except ChildError as error:
            kind = AirflowFailException if error.exit_status == USER_ERROR else AirflowException
            raise kind(f"audioml {' '.join(arguments)}: {error}") from None

    def skip_if_up_to_date(self, context: Context) -> None:
        """End as skipped, with the reason, if the step need not run; log why it runs otherwise."""
        decision = json.loads(self.run_audioml("plan", self.step, "--restore", "--json", capture=True))[self.step]
        reason = "; ".join(decision["reasons"])
        context["ti"].xcom_push(key="reason", value=reason)
        if not decision["run"]:
            raise AirflowSkipException(reason)
        self.log.info("%s runs: %s", self.step, reason)

    def on_kill(self) -> None:
        """End the child; Airflow sends SIGKILL to the whole process group some seconds later."""
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()

    def _keep_child(self, child: subprocess.Popen[str]) -> None:
        self._child = child


class RunOperator(StepOperator):
    """A whole step, or skipped with the reason if it is up to date."""

    def execute(self, context: Context) -> None:
        """Decide, then plan, work and collect in one child."""
        self.skip_if_up_to_date(context)
        self.run_audioml("run", self.step)


class PlanOperator(StepOperator):
    """The items of a step, for mapping; or skipped with the reason if the step is up to date."""

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return one batch a mapped Airflow task: ids of items, and a label."""
        self.skip_if_up_to_date(context)
        items = json.loads(self.run_audioml("run", self.step, "--plan", "--json", capture=True))
        self.log.info("%s: %d items to do", self.step, len(items))
        return make_batches(items, MAX_MAPPED)


class WorkOperator(StepOperator):
    """One batch of items; mapped."""

    def __init__(self, *, batch: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch = batch

    def execute(self, context: Context) -> int:
        """Do the items one after the other; return how many."""
        for item in self.batch["items"]:
            self.run_audioml("run", self.step, "--item", item, one_thread=True)
        return len(self.batch["items"])


class CollectOperator(StepOperator):
    """Merge what the items made. Runs with no items too, as long as the step was planned."""

    def __init__(self, *, planned_by: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.planned_by = planned_by

    def execute(self, context: Context) -> None:
        """Collect, unless the step's plan was skipped."""
        # A skipped plan and a plan without items both leave the mapped Airflow task skipped; only the
        # second one returned a list.
        if context["ti"].xcom_pull(task_ids=self.planned_by) is None:
            raise AirflowSkipException(f"{self.step} is up to date")
        self.run_audioml("run", self.step, "--collect")


class RecordOperator(StepOperator):
    """Record a step's outputs for DVC, so that `dvc repro` finds them up to date."""

    ui_color = "#f3ecf8"

    def execute(self, context: Context) -> None:
        """Commit the step's outputs to dvc.lock and DVC's cache."""
        self.run_audioml("record", self.step)


def make_batches(items: list[dict[str, str]], limit: int) -> list[dict[str, Any]]:
    """Spread items over at most `limit` batches, in order, sizes differing by one at most."""
    count = min(limit, len(items))
    bounds = [i * len(items) // count for i in range(count + 1)] if count else [0]
    batches = []
    for start, end in pairwise(bounds):
        more = f" and {end - start - 1} more" if end - start > 1 else ""
        ids = [item["id"] for item in items[start:end]]
        batches.append({"items": ids, "label": items[start]["label"] + more})
    return batches
