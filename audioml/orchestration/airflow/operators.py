"""The Airflow operators of a step: each runs a part of `audioml run STEP` in a fresh child process.

Nothing heavy is imported here or in an Airflow task's own process: Airflow forks it, and torch does not
survive forks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from airflow.sdk import Asset, BaseOperator, Context
from airflow.sdk.exceptions import AirflowSkipException

from audioml.orchestration.airflow.links import links_of
from audioml.orchestration.airflow.retries import BadInput, failure_of
from audioml.orchestration.child import ChildError, run_child
from audioml.orchestration.facts import is_published
from audioml.orchestration.lease import Holder
from audioml.pipeline.context import Context as Workspace
from audioml.processes import ONE_THREAD, RUN_MARK

MAX_MAPPED = 1000
"""Mapped Airflow tasks of one step; Airflow's own limit is 1024. More items than that share Airflow tasks."""
SHOWN_ITEMS = 5
"""Failed items that an error names."""


def command(*arguments: str) -> list[str]:
    """Return the command line of audioml; `-P` keeps the workspace's files from hiding modules."""
    return [sys.executable, "-P", "-m", "audioml", *arguments]


def current_run() -> Holder:
    """Return the DAG run of the Airflow task that this process does."""
    return Holder(os.environ.get("AIRFLOW_CTX_DAG_ID", ""), os.environ.get("AIRFLOW_CTX_DAG_RUN_ID", ""))


class RunsAudioml:
    """What operators that run audioml share: the child in the workspace, which ends with its Airflow task."""

    workspace: str
    log: Any
    ends_with_run = True
    """Whether `end` ends its child, should the child still be there."""
    _child: subprocess.Popen[str] | None = None

    def run_audioml(self, *arguments: str, capture: bool = False, one_thread: bool = False) -> str:
        """Run audioml in the workspace, its output in the Airflow task's log.

        Raises
        ------
        BadInput
            On an error that trying again does not mend.
        MachineFault
            When the child was killed or broke down, or a service was not there.
        """
        try:
            return run_child(
                command(*arguments),
                Path(self.workspace),
                self.log.info,
                environment={
                    **(ONE_THREAD if one_thread else {}),
                    **({RUN_MARK: current_run().key} if self.ends_with_run else {}),
                },
                capture=capture,
                on_start=self._keep_child,
            )
        except ChildError as error:
            raise failure_of(error, f"audioml {' '.join(arguments)}") from None

    def on_kill(self) -> None:
        """End the child; Airflow sends SIGKILL to the whole process group some seconds later."""
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()

    def _keep_child(self, child: subprocess.Popen[str]) -> None:
        self._child = child


class AudiomlOperator(RunsAudioml, BaseOperator):  # type: ignore[misc]
    """Base: runs audioml in one workspace."""

    ui_color = "#e8f1fa"

    def __init__(self, *, workspace: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.workspace = workspace


class StepOperator(AudiomlOperator):
    """Base: a part of one step.

    Parameters
    ----------
    step : str
        Its name.
    find_options : callable, optional
        From the context of a DAG run to options for the step's plan and collection. Default: there are none.
    """

    def __init__(self, *, step: str, find_options: Callable[[Context], list[str]] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.step = step
        self.operator_extra_links = links_of(step)
        self._find_options = find_options

    def options(self, context: Context) -> list[str]:
        """Return the options that a DAG run gives to the step's plan and collection."""
        return self._find_options(context) if self._find_options else []

    def skip_if_up_to_date(self, context: Context) -> None:
        """End as skipped, with the reason, if the step need not run; log why it runs otherwise."""
        decision = json.loads(self.run_audioml("plan", self.step, "--restore", "--json", capture=True))[self.step]
        reason = "; ".join(decision["reasons"])
        context["ti"].xcom_push(key="reason", value=reason)
        if not decision["run"]:
            raise AirflowSkipException(reason)
        self.log.info("%s runs: %s", self.step, reason)

    def plan_items(self, context: Context) -> list[dict[str, Any]]:
        """Return the items that are still to do."""
        arguments = ("run", self.step, "--plan", "--json", *self.options(context))
        items: list[dict[str, Any]] = json.loads(self.run_audioml(*arguments, capture=True))
        return items


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
        items = self.plan_items(context)
        self.log.info("%s: %d items to do", self.step, len(items))
        return make_batches(items, MAX_MAPPED)


class WorkOperator(StepOperator):
    """One batch of items; mapped."""

    def __init__(self, *, batch: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch = batch

    def execute(self, context: Context) -> int:
        """Do the items in one child; return how many."""
        options = [option for item in self.batch["items"] for option in ("--item", item)]
        self.run_audioml("run", self.step, *options, one_thread=True)
        return len(self.batch["items"])


class RecheckOperator(StepOperator):
    """What of a step's items failed, after all mapped Airflow tasks have ended, well or badly.

    Few failures are reported and tried again, each item in an Airflow task of its own; many are taken for one fault
    that all items share, and fail the step. Nothing is planned anew: what has come meanwhile waits for the next run.
    """

    def __init__(self, *, planned_by: str, work: str, max_failed_share: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.planned_by = planned_by
        self.work = work
        self.max_failed_share = max_failed_share

    def execute(self, context: Context) -> list[dict[str, Any]]:
        """Return one batch for each item of the batches that failed."""
        ti, run_id = context["ti"], context["run_id"]
        batches = ti.xcom_pull(task_ids=self.planned_by)
        if batches is None:
            raise AirflowSkipException(f"{self.step} has no plan")
        states = ti.get_task_states(dag_id=ti.dag_id, task_ids=[self.work], run_ids=[run_id]).get(run_id, {})
        failed = [batch for i, batch in enumerate(batches) if states.get(f"{self.work}_{i}") != "success"]
        if not failed:
            return []
        shown = "; ".join(batch["label"] for batch in failed[:SHOWN_ITEMS])
        more = f" and {len(failed) - SHOWN_ITEMS} more" if len(failed) > SHOWN_ITEMS else ""
        report = f"{self.step}: {len(failed)} of {len(batches)} failed ({shown}{more})"
        ti.xcom_push(key="failed", value=[batch["label"] for batch in failed])
        if len(failed) > self.max_failed_share * len(batches):
            raise BadInput(
                f"{report}, but airflow.max_failed_share is {self.max_failed_share:g}. The log of each failed Airflow "
                f"task of {self.work} says why."
            )
        self.log.warning("%s. Their items are tried again, one by one.", report)
        return [split for batch in failed for split in _split_batch(batch)][:MAX_MAPPED]


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
        self.run_audioml("run", self.step, "--collect", *self.options(context))


class RecordOperator(StepOperator):
    """Record a step's outputs for DVC, so that `dvc repro` finds them up to date."""

    ui_color = "#f3ecf8"

    def execute(self, context: Context) -> None:
        """Commit the step's outputs to dvc.lock and DVC's cache."""
        self.run_audioml("record", self.step)


class PublishOperator(AudiomlOperator):
    """Tell who waits for an asset that it is new, with its counts, hashes and links; skipped where it is not.

    That an event was sent is kept by `end`, so that one that was not, as its run broke off, is sent by the next run.
    """

    ui_color = "#eaf6ec"

    def __init__(self, *, asset: Asset, kind: str, **kwargs: Any) -> None:
        super().__init__(outlets=[asset], **kwargs)
        self.kind = kind

    def execute(self, context: Context) -> dict[str, Any]:
        """Return what the event carries."""
        if is_published(Workspace.load(self.workspace), self.kind):
            raise AirflowSkipException(f"{self.kind} is what its last event told of")
        facts: dict[str, Any] = json.loads(self.run_audioml("describe", self.kind, "--json", capture=True))
        context["outlet_events"][self.outlets[0]].extra = facts
        return facts


def make_batches(items: Sequence[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Spread items over at most `limit` batches, in order, sizes differing by one at most.

    Parameters
    ----------
    items : sequence of dict
        Each with `id`, `label` and `clips`, how many clips or recordings it holds.
    limit : int
        Most batches.
    """
    count = min(limit, len(items))
    bounds = [i * len(items) // count for i in range(count + 1)] if count else [0]
    return [
        {"items": [item["id"] for item in items[start:end]], "label": _label(items[start:end])}
        for start, end in pairwise(bounds)
    ]


def _split_batch(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a batch for each item of one."""
    items = batch["items"]
    label = batch["label"]
    return [
        {"items": [item], "label": label if len(items) == 1 else f"{i} of {label}"} for i, item in enumerate(items, 1)
    ]


def _label(items: Sequence[dict[str, Any]]) -> str:
    if len(items) == 1:
        return str(items[0]["label"])
    return f"{len(items)} items, {sum(item['clips'] for item in items):,} clips: {items[0]['label']} ..."
