"""The first and the last Airflow task of each DAG run: `begin` waits for the workspace, `end` gives it back."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import BaseSensorOperator, Context
from airflow.sdk.exceptions import AirflowSkipException

from audioml.orchestration.airflow.form import form_settings
from audioml.orchestration.airflow.operators import AudiomlOperator, RunsAudioml
from audioml.orchestration.airflow.schedules import partition_options
from audioml.orchestration.facts import is_published, note_published
from audioml.orchestration.lease import FILE, Holder, give_back, take
from audioml.orchestration.reaper import reap_run
from audioml.orchestration.run_params import begin_run, end_run
from audioml.orchestration.services import MARK
from audioml.params import FILE_NAME, Params
from audioml.pipeline.context import STATE_DIR
from audioml.pipeline.context import Context as Workspace

WAIT_INTERVAL_S = 5.0
LONGEST_INTERVAL = timedelta(seconds=30)
LONGEST_WAIT = timedelta(days=30)
UNFINISHED = ["queued", "running"]
PUBLISH = "publish"
"""The Airflow task whose answer tells that an event was sent."""


def holder_of(context: Context) -> Holder:
    """Return the DAG run of an Airflow task."""
    return Holder(context["dag"].dag_id, context["run_id"], os.environ.get(MARK, ""))


class BeginOperator(RunsAudioml, BaseSensorOperator):  # type: ignore[misc]
    """Wait until no other run works in the workspace, put this run's params in place, and ask what is to do.

    Ends as skipped, and all after it with it, when none of the DAG's steps has anything to do and the last event of
    its asset told of what there is; a DAG without steps is not asked. A sensor that is rescheduled, so that waiting
    takes no worker.
    """

    def __init__(
        self, *, workspace: str, defaults: Params, steps: Sequence[str], produces: str | None, **kwargs: Any
    ) -> None:
        super().__init__(
            mode="reschedule",
            poke_interval=WAIT_INTERVAL_S,
            exponential_backoff=True,
            max_wait=LONGEST_INTERVAL,
            timeout=LONGEST_WAIT.total_seconds(),
            **kwargs,
        )
        self.workspace = workspace
        self.steps = list(steps)
        self.produces = produces
        self._defaults = defaults

    def poke(self, context: Context) -> bool:
        """Return whether this run has the workspace."""
        folder, holder, ti = Path(self.workspace), holder_of(context), context["ti"]

        def has_ended(other: Holder) -> bool:
            return not ti.get_dr_count(other.dag_id, run_ids=[other.run_id], states=UNFINISHED)

        if other := take(folder, holder, has_ended):
            self.log.info("%s works in %s; this run waits until it has ended.", other.key, folder)
            if other.airflow != holder.airflow:
                self.log.warning(
                    "That is a run of another Airflow (%s). If it will never go on, remove %s.",
                    other.airflow or "a cluster's",
                    folder / STATE_DIR / FILE,
                )
            return False
        try:
            self._begin(context, holder)
        except BaseException:
            self._give_back(holder)
            raise
        return True

    def _begin(self, context: Context, holder: Holder) -> None:
        settings = form_settings(self._defaults, context["params"])
        if settings:
            # Checks every plug-in's section: not for this process, which Airflow forked.
            options = [option for setting in settings for option in ("--set", setting)]
            self.run_audioml("runs", "begin", holder.key, *options)
        else:
            begin_run(Path(self.workspace), holder.key, [])
        if not self.steps:
            return
        partition = partition_options(self._defaults, context) if "ingest" in self.steps else []
        decisions = json.loads(self.run_audioml("plan", "--json", *partition, capture=True))
        to_do = {name: "; ".join(d["reasons"]) for name, d in decisions.items() if d["run"] and name in self.steps}
        for name, reason in to_do.items():
            self.log.info("%s is to run: %s", name, reason)
        if not to_do and self.produces and not is_published(Workspace.load(self.workspace), self.produces):
            self.log.info("Nothing is to run, but no event has told of %s as it is now.", self.produces)
        elif not to_do:
            reason = f"{', '.join(self.steps)}: {decisions[self.steps[0]]['reasons'][0]}"
            context["ti"].xcom_push(key="reason", value=reason)
            raise AirflowSkipException(reason)

    def _give_back(self, holder: Holder) -> None:
        end_run(Path(self.workspace), holder.key)
        give_back(Path(self.workspace), holder)


class EndOperator(AudiomlOperator):
    """End what the run left behind on this host, put params.yaml back, and let the next run in."""

    def __init__(self, *, produces: str | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.produces = produces

    def execute(self, context: Context) -> None:
        """Give the workspace back; also after a failure."""
        folder, holder = Path(self.workspace), holder_of(context)
        for process in reap_run(holder.key):
            self.log.warning("A process of this run was still there, and has been ended: %s", process)
        if self.produces and (facts := context["ti"].xcom_pull(task_ids=PUBLISH)):
            note_published(Workspace.load(self.workspace), self.produces, facts["hashes"])
        record = end_run(folder, holder.key)
        if record.outcome == "edited":
            self.log.warning("%s was edited during the run, and stays as it is.", FILE_NAME)
        give_back(folder, holder)
