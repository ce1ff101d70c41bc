"""MLflow runs: one for each training, taken up again by its id, and completed by the evaluation."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from audioml.errors import ParamsError
from audioml.params import FILE_NAME, load_params
from audioml.registry.lineage import dataset_inputs, effective_params, source_tags
from audioml.registry.names import metric_name
from audioml.registry.tracking import tracking
from audioml.registry.workspace import Workspace

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Run

SAMPLING_VARIABLE = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL"
SAMPLING_INTERVAL_S = 5
"""Between samples of the system metrics, unless the environment says otherwise. MLflow's own 10 s says
nothing about a training of half a minute."""
FIGURES, REPORT, SEARCH = "figures", "evaluation", "search"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""MLflow's pages then show training runs first, not traces of language models."""
STANDS_FOR_TAG = "audioml.stands_for_run"
PART_TAG, PARENT_TAG = "audioml.part", "mlflow.parentRunId"


class RunTracker:
    """Logs to one run; what `audioml.training.tracker.Tracker` asks for."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client = client
        self.run_id = run_id

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log params beside those of params.yaml, such as the number of weights. One that is there stays."""
        from mlflow.entities import Param

        present = self._client.get_run(self.run_id).data.params
        fresh = [Param(key, str(value)) for key, value in params.items() if key not in present]
        self._client.log_batch(self.run_id, params=fresh)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags of the run."""
        for key, value in tags.items():
            self._client.set_tag(self.run_id, key, value)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Log metrics of one step, in one request."""
        _log_metrics(self._client, self.run_id, metrics, step)


@contextmanager
def training_run(ctx: Workspace, run_id: str | None = None, part: str = "", parent: str = "") -> Iterator[RunTracker]:
    """Yield a tracker of a run in the experiment `params.name`, with params, tags, dataset and system metrics.

    The run's artifact `params.yaml` makes the same model again in a workspace with the same data.

    Parameters
    ----------
    ctx
        The workspace.
    run_id
        A run to take up again after an interruption. It is, if it is there and had the same params; otherwise
        a new one is made.
    part
        What it trains where that is not the model that is kept, such as ``fold 3``; the run is named by it.
    parent
        The run that a new one is shown below.

    An error in the block ends the run as failed; a killed process leaves it as running, to be taken up again.
    """
    import mlflow

    with tracking(ctx):
        client = mlflow.MlflowClient()
        params = effective_params(ctx.params)
        run = _find_run(client, run_id)
        if run is None or any(run.data.params.get(key) != value[:6000] for key, value in params.items()):
            tags = {PART_TAG: part, PARENT_TAG: parent}
            run = _create_run(client, ctx, params, {key: value for key, value in tags.items() if value})
        os.environ.setdefault(SAMPLING_VARIABLE, str(SAMPLING_INTERVAL_S))
        with mlflow.start_run(run_id=run.info.run_id, log_system_metrics=True):
            yield RunTracker(client, run.info.run_id)


def nest_runs(ctx: Workspace, run_id: str, children: Sequence[str]) -> None:
    """Show runs below another one. Those that the server does not have are left out."""
    import mlflow

    with tracking(ctx):
        client = mlflow.MlflowClient()
        for child in children:
            if _find_run(client, child):
                client.set_tag(child, PARENT_TAG, run_id)


def open_search_run(ctx: Workspace, run_id: str | None) -> str:
    """Return the run that the trials of a search are shown below: this one if the server has it, else a new one."""
    import mlflow

    with tracking(ctx):
        client = mlflow.MlflowClient()
        run = _find_run(client, run_id)
        if run is None:
            run = _create_run(client, ctx, effective_params(ctx.params), {PART_TAG: SEARCH})
        return str(run.info.run_id)


def log_search(
    ctx: Workspace, run_id: str, metrics: Mapping[str, float], figures: Mapping[str, Figure], folder: Path
) -> None:
    """Log what a search found to its run, with figures (as PNG) and the report's folder, and end the run."""
    import mlflow

    with tracking(ctx):
        client = mlflow.MlflowClient()
        if _find_run(client, run_id) is None:
            return
        _log_metrics(client, run_id, metrics, step=0)
        for name, figure in figures.items():
            client.log_figure(run_id, figure, f"{FIGURES}/{name}.png")
        client.log_artifacts(run_id, str(folder), SEARCH)
        client.set_terminated(run_id)


def log_evaluation(
    ctx: Workspace, run_id: str, metrics: Mapping[str, float], figures: Mapping[str, Figure], report: Path
) -> None:
    """Log an evaluation to the run that trained the model: metrics, figures (as PNG) and the report's folder."""
    import mlflow

    with tracking(ctx):
        client = mlflow.MlflowClient()
        run_id = find_or_stand_in(client, ctx, run_id)
        _log_metrics(client, run_id, metrics, step=0)
        for name, figure in figures.items():
            client.log_figure(run_id, figure, f"{FIGURES}/{name}.png")
        client.log_artifacts(run_id, str(report), REPORT)


def find_or_stand_in(client: MlflowClient, ctx: Workspace, run_id: str) -> str:
    """Return `run_id` if the server has that run, or a run that stands for it.

    A workspace that was cloned has models but not the server that saw them trained; what is evaluated and
    registered there still needs a run to belong to.
    """
    if _find_run(client, run_id):
        return run_id
    experiment_id = experiment_of(client, ctx)
    known = client.search_runs([experiment_id], f"tags.`{STANDS_FOR_TAG}` = '{run_id}'", max_results=1)
    if known:
        return str(known[0].info.run_id)
    run = _create_run(client, ctx, effective_params(ctx.params), {STANDS_FOR_TAG: run_id})
    client.set_terminated(run.info.run_id)
    return str(run.info.run_id)


def experiment_of(client: MlflowClient, ctx: Workspace) -> str:
    """Return the id of the workspace's experiment, creating it if need be."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(ctx.params.name)
    if experiment is None:
        try:
            return str(client.create_experiment(ctx.params.name, tags=EXPERIMENT_TAGS))
        except MlflowException:
            # Another process created it in this moment; anything else is raised below.
            experiment = client.get_experiment_by_name(ctx.params.name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _find_run(client: MlflowClient, run_id: str | None) -> Run | None:
    from mlflow.exceptions import MlflowException

    if run_id is None:
        return None
    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise
    return run if run.info.lifecycle_stage == "active" else None


def _create_run(client: MlflowClient, ctx: Workspace, params: Mapping[str, str], tags: dict[str, str]) -> Run:
    from mlflow.entities import Param

    name = " ".join(filter(None, [f"{ctx.params.model.name}-{ctx.params.features.name}", tags.get(PART_TAG)]))
    run = client.create_run(experiment_of(client, ctx), tags=source_tags(ctx) | tags, run_name=name)
    client.log_batch(run.info.run_id, params=[Param(key, value) for key, value in params.items()])
    client.log_text(run.info.run_id, _params_text(ctx), FILE_NAME)
    if inputs := dataset_inputs(ctx):
        _log_inputs(client, run.info.run_id, inputs)
    return run


def _log_inputs(client: MlflowClient, run_id: str, inputs: list[DatasetInput]) -> None:
    """Name a run's datasets, once more if another run was the first to name them in this moment."""
    from mlflow.exceptions import MlflowException

    try:
        client.log_inputs(run_id, inputs)
    except MlflowException as error:
        if "IntegrityError" not in str(error):
            raise
        client.log_inputs(run_id, inputs)


def _params_text(ctx: Workspace) -> str:
    """Return params.yaml as it stands, or what the workspace was loaded with if somebody is editing it since."""
    try:
        edited = load_params(ctx.workspace) != ctx.params
    except ParamsError:
        edited = True
    if not edited:
        return ctx.path(FILE_NAME).read_text(encoding="utf-8")
    return yaml.safe_dump(ctx.params.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)


def _log_metrics(client: MlflowClient, run_id: str, metrics: Mapping[str, float], step: int) -> None:
    import time

    from mlflow.entities import Metric

    now_ms = int(time.time() * 1000)
    logged = [Metric(metric_name(name), float(value), now_ms, step) for name, value in metrics.items()]
    client.log_batch(run_id, metrics=logged)
