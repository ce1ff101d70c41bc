"""The search for params as Airflow tasks.

`plan` begins it, `work` is mapped over the trials that are left, `report` compares all. What a trial tries, the study
says when it starts, so they share nothing but the study.
"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Context, TriggerRule

from audioml.orchestration.airflow.operators import MAX_MAPPED, AudiomlOperator
from audioml.orchestration.airflow.step_group import training_arguments
from audioml.params import Params

TUNE = "tune"
MAP_LABEL = "{{ task.trial }}"


class TunePlanOperator(AudiomlOperator):
    """Begin the search, or go on with it."""

    def execute(self, context: Context) -> list[str]:
        """Return the trials that are left, for mapping."""
        left = json.loads(self.run_audioml("tune", "--plan", "--json", capture=True))
        self.log.info("%d trials to do", len(left))
        return [trial["id"] for trial in left[:MAX_MAPPED]]


class TrialOperator(AudiomlOperator):
    """One trial; mapped. Which one it does, the study says."""

    def __init__(self, *, trial: str, shares_cores: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.trial = trial
        self.shares_cores = shares_cores

    def execute(self, context: Context) -> None:
        """Do the next trial in a child."""
        self.run_audioml("tune", "--next", one_thread=self.shares_cores)


class TuneReportOperator(AudiomlOperator):
    """Compare the trials, in reports/tuning and in MLflow."""

    def execute(self, context: Context) -> list[str]:
        """Return the settings of the best one."""
        found = json.loads(self.run_audioml("tune", "--report", "--json", capture=True))
        settings: list[str] = found["settings"]
        self.log.info("%s is %s with %s", found["metric"], found["best"]["value"], " ".join(settings))
        self.log.info("Write it into params.yaml: audioml tune --report --write")
        return settings


def add_tuning(dag: DAG, folder: Path, params: Params, begin: Any, end: Any) -> None:
    """Add the search between the Airflow tasks that take the workspace and give it back."""
    airflow = params.airflow
    common: dict[str, Any] = {
        "workspace": str(folder),
        "pool": airflow.pools.cpu,
        "execution_timeout": timedelta(hours=airflow.step_timeout_h),
    }
    # A trial trains on one device, however many the model takes.
    training = {**training_arguments(params), "pool_slots": 1}
    with dag:
        plan = TunePlanOperator(task_id="plan", **common)
        work = TrialOperator.partial(
            task_id="work",
            map_index_template=MAP_LABEL,
            max_active_tis_per_dag=params.tune.jobs,
            shares_cores=params.tune.jobs > 1,
            **{**common, **training},
        ).expand(trial=plan.output)
        report = TuneReportOperator(task_id="report", trigger_rule=TriggerRule.NONE_FAILED, **common)
        begin >> plan >> work >> report >> end
        # A plan that failed fails the run here; one without trials leaves only the report.
        plan >> report
