"""A step as a task group.

The first Airflow task asks DVC whether the step must run and ends as skipped, with the reason, if not; the last one
records the outputs for DVC. Trigger rules: the first takes ``none_failed``, so that it decides for itself after a
skipped step but not after a failed one; what follows within the step is skipped or fails with it.

A mapped step, and training with folds or shares, does its items in mapped Airflow tasks. `recheck` runs however these
end, and gives what failed to `retry`, which does it once more, one item an Airflow task.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, TaskGroup, TriggerRule

from audioml.orchestration.airflow.operators import (
    CollectOperator,
    PlanOperator,
    RecheckOperator,
    RecordOperator,
    RunOperator,
    WorkOperator,
)
from audioml.orchestration.airflow.schedules import partition_options
from audioml.params import Params
from audioml.pipeline.step import Step

GPU_QUEUE = "gpu"
"""Celery queue of training that asks for a GPU (`training.accelerator: gpu`); any other work takes the default one."""
MAP_LABEL = "{{ task.batch['label'] }}"


def add_step(dag: DAG, step: Step, folder: Path, params: Params, *, first_rule: str) -> tuple[Any, Any]:
    """Add a step's task group to a DAG; return its first and its last Airflow task.

    Parameters
    ----------
    dag : DAG
        Where to.
    step : Step
        What it runs.
    folder : Path
        The workspace.
    params : Params
        Of the workspace.
    first_rule : str
        Trigger rule of the first Airflow task.
    """
    airflow = params.airflow
    common: dict[str, Any] = {
        "step": step.name,
        "workspace": str(folder),
        "pool": airflow.pools.cpu,
        "execution_timeout": timedelta(hours=airflow.step_timeout_h),
    }
    if step.name == "ingest":
        common["find_options"] = partial(partition_options, params)
    dvc = {**common, "pool": airflow.pools.dvc}
    with dag, TaskGroup(step.name, tooltip=step.summary):
        record = RecordOperator(task_id="record", **dvc)
        # Training does the models of folds and shares beside the final one.
        if not (step.mapped or (step.spawned and params.split.has_parts)):
            training = training_arguments(params) if step.name == "train" else {}
            first = RunOperator(task_id="run", trigger_rule=first_rule, **{**common, **training})
            first >> record
            return first, record
        plan = PlanOperator(task_id="plan", trigger_rule=first_rule, **dvc)
        items = {
            **common,
            "execution_timeout": timedelta(hours=airflow.item_timeout_h),
            "map_index_template": MAP_LABEL,
            "max_active_tis_per_dag": airflow.max_parallel_items,
            **(training_arguments(params) if step.name == "train" else {}),
        }
        # Nobody is told of an item that fails here: `recheck` judges how many did, and `retry` does them again.
        work = WorkOperator.partial(task_id="work", **items, on_failure_callback=None).expand(batch=plan.output)
        recheck = RecheckOperator(
            task_id="recheck",
            planned_by=plan.task_id,
            work=work.task_id,
            max_failed_share=airflow.max_failed_share,
            trigger_rule=TriggerRule.ALL_DONE,
            **common,
        )
        retry = WorkOperator.partial(task_id="retry", **items).expand(batch=recheck.output)
        collect = CollectOperator(
            task_id="collect", planned_by=plan.task_id, trigger_rule=TriggerRule.NONE_FAILED, **common
        )
        plan >> work >> recheck >> retry >> collect >> record
        # A plan that failed fails the step here: what comes between the two says nothing of it.
        plan >> collect
        return plan, record


def training_arguments(params: Params) -> dict[str, Any]:
    """Return what is different for training: its time, the pool that counts GPUs, the queue of workers with one."""
    training, airflow = params.training, params.airflow
    arguments: dict[str, Any] = {"execution_timeout": timedelta(hours=airflow.train_timeout_h)}
    if training.accelerator == "cpu":
        return arguments
    arguments["pool"] = airflow.pools.gpu
    if training.accelerator == "gpu":
        devices = training.devices if isinstance(training.devices, int) else 1
        arguments |= {"queue": GPU_QUEUE, "pool_slots": max(1, devices)}
    return arguments
