"""What monitoring found over time, in MLflow: one run for each model, a step for each day."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from audioml.registry.names import metric_name
from audioml.registry.runs import experiment_of
from audioml.registry.workspace import Workspace

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL_TAG = "audioml.monitors"
RUN_NAME = "monitoring of {}"
EPOCH = datetime.date(1970, 1, 1)


def log_monitoring(
    ctx: Workspace, day: datetime.date, metrics: Mapping[str, float], tags: Mapping[str, str], report: Path
) -> str:
    """Log what was found of a day, with its report, and return the id of the run.

    Needs `audioml.registry.tracking.tracking` around it. MLflow keeps every value: of a day that is looked at twice,
    the last one counts.

    Parameters
    ----------
    ctx
        The workspace, whose model was looked at.
    day
        The step: days since 1970-01-01, with the day's own time stamp.
    metrics
        By name.
    tags
        Of the last day that was looked at.
    report
        Folder of the report.
    """
    import mlflow
    from mlflow.entities import Metric

    client = mlflow.MlflowClient()
    run_id = _open(client, ctx)
    time_ms = int(datetime.datetime.combine(day, datetime.time(), datetime.UTC).timestamp() * 1000)
    step = (day - EPOCH).days
    logged = [Metric(metric_name(name), float(value), time_ms, step) for name, value in metrics.items()]
    client.log_batch(run_id, metrics=logged)
    for key, value in tags.items():
        client.set_tag(run_id, key, value)
    client.log_artifacts(run_id, str(report), f"monitoring/{report.name}")
    return run_id


def _open(client: MlflowClient, ctx: Workspace) -> str:
    experiment_id = experiment_of(client, ctx)
    known = client.search_runs(
        [experiment_id],
        f"tags.`{MODEL_TAG}` = '{ctx.model_name}'",
        order_by=["attributes.start_time ASC"],
        max_results=1,
    )
    if known:
        return str(known[0].info.run_id)
    run = client.create_run(experiment_id, tags={MODEL_TAG: ctx.model_name}, run_name=RUN_NAME.format(ctx.model_name))
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)
