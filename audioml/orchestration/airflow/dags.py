"""Workspaces to DAGs.

A workspace called NAME has six DAGs. Four hand on to each other by assets: `NAME.ingest`, which is scheduled by the
clock or by new recordings, `NAME.features`, `NAME.train` and `NAME.promote`. `NAME` is all of it in one, for a person
who presses a button; it updates the last asset only, so that it starts none of the four. (Where people approve, it
leaves that to `NAME.promote`.) `NAME.monitor` watches what is served. One whose params say what to search
(`tune.space`) has `NAME.tune` too.

Each but `NAME.promote` and `NAME.monitor` begins with the Airflow task `begin`, a setup that waits until no other run
works in the workspace, and finishes with `end`, its teardown. One that finds nothing to do skips everything between
the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, TriggerRule

from audioml.errors import ParamsError
from audioml.orchestration.airflow.alerts import deadline_alerts, failure_callbacks
from audioml.orchestration.airflow.assets import CHAMPION, DATASET, DRIFT, FEATURES, MODEL, workspace_asset
from audioml.orchestration.airflow.form import OVERRIDES, run_form
from audioml.orchestration.airflow.lease import PUBLISH, BeginOperator, EndOperator
from audioml.orchestration.airflow.links import report_url
from audioml.orchestration.airflow.monitoring import MONITOR, add_monitoring
from audioml.orchestration.airflow.operators import PublishOperator
from audioml.orchestration.airflow.promotion import add_promotion
from audioml.orchestration.airflow.retries import retry_arguments
from audioml.orchestration.airflow.schedules import ingest_schedule, monitor_schedule, partition_form
from audioml.orchestration.airflow.step_group import add_step
from audioml.orchestration.airflow.tuning import TUNE, add_tuning
from audioml.orchestration.run_params import load_own_params
from audioml.orchestration.workspaces import check_name
from audioml.params import Params
from audioml.pipeline.graph import STEPS
from audioml.pipeline.step import Step
from audioml.registry.tracking import mlflow_url

PROMOTE = "promote"
OPEN_QUESTIONS = 16
"""Runs of a promote DAG at once."""


@dataclass(frozen=True)
class Stage:
    """One of the DAGs that hand on to each other."""

    name: str
    summary: str
    steps: tuple[str, ...]
    consumes: str | None
    """Kind of the asset that starts it."""
    produces: str
    """Kind of the asset that it updates."""


STAGES = (
    Stage("ingest", "recordings to a checked dataset", ("ingest", "validate"), None, DATASET),
    Stage("features", "a dataset to splits and feature shards", ("split", "featurize"), DATASET, FEATURES),
    Stage("train", "features to a measured, registered challenger", ("train", "evaluate", "register"), FEATURES, MODEL),
)


def build_dags(workspace: str | Path | None = None, *, dag_file: str | Path | None = None) -> dict[str, DAG]:
    """Build the DAGs of a workspace, by id.

    Parameters
    ----------
    workspace : path, optional
        The workspace; else the one that holds the folder of `dag_file`, the file that Airflow reads.
    dag_file : path, optional
        As `__file__` there.

    Raises
    ------
    ParamsError
        When the params are not valid, or a workspace that `AUDIOML_WORKSPACES` names before this one has a DAG of the
        same name.
    """
    folder = Path(workspace or Path(dag_file or "").absolute().parents[1])
    try:
        params = load_own_params(folder)
        check_name(folder, params.name, [stage.name for stage in STAGES] + [PROMOTE, TUNE, MONITOR])
        stages = [build_stage(folder, params, stage) for stage in STAGES]
        monitor = build_monitor(folder, params)
    except ParamsError as error:
        raise ParamsError(f"{folder}: {error}") from None
    dags = [*stages, build_promote(folder, params), monitor, build_chain(folder, params)]
    if params.tune.space:
        dags.append(build_tune(folder, params))
    return {dag.dag_id: dag for dag in dags}


def build_stage(folder: Path, params: Params, stage: Stage) -> DAG:
    """Build one of the DAGs that hand on to each other."""
    consumes = stage.consumes
    schedule = ingest_schedule(folder, params) if consumes is None else [workspace_asset(params, consumes)]
    form = partition_form(params) if consumes is None else None
    dag = _make_dag(folder, params, f"{params.name}.{stage.name}", stage.summary, schedule=schedule, form=form)
    _fill(dag, folder, params, stage.steps, produces=stage.produces)
    return dag


def build_promote(folder: Path, params: Params) -> DAG:
    """Build the DAG that makes a challenger the champion. It works on the registry, so that it needs no workspace."""
    schedule = None if params.airflow.promote == "manual" else [workspace_asset(params, MODEL)]
    dag = _make_dag(folder, params, f"{params.name}.{PROMOTE}", "a challenger to the champion", schedule=schedule)
    # A question that nobody answers must not keep newer challengers from being asked about.
    dag.max_active_runs = OPEN_QUESTIONS
    add_promotion(dag, folder, params, [workspace_asset(params, CHAMPION)])
    return dag


def build_monitor(folder: Path, params: Params) -> DAG:
    """Build the DAG that watches what is served. It changes nothing that a step reads, so it needs no workspace."""
    summary = "what is served beside its reference"
    dag = _make_dag(folder, params, f"{params.name}.{MONITOR}", summary, schedule=monitor_schedule(params))
    add_monitoring(dag, folder, params, [workspace_asset(params, DRIFT)])
    return dag


def build_tune(folder: Path, params: Params) -> DAG:
    """Build the DAG of the search for params, which people start. It reads features, so it holds the workspace."""
    form = {OVERRIDES: run_form(params)[OVERRIDES]}
    dag = _make_dag(folder, params, f"{params.name}.{TUNE}", "a search for params", schedule=None, form=form)
    common: dict[str, Any] = {"workspace": str(folder), "produces": None}
    with dag:
        begin = BeginOperator(task_id="begin", defaults=params, steps=[], **common)
        begin.as_setup()
        end = EndOperator(task_id="end", **common)
        end.as_teardown(setups=begin)
    add_tuning(dag, folder, params, begin, end)
    return dag


def build_chain(folder: Path, params: Params) -> DAG:
    """Build the DAG of everything, which people start."""
    names = [step.name for step in STEPS]
    summary, form = "recordings to a champion, in one run", {**run_form(params), **partition_form(params)}
    dag = _make_dag(folder, params, params.name, summary, schedule=None, form=form)
    # A person is asked by `NAME.promote`: a question that waits must hold neither the workspace nor the next run.
    records = _fill(dag, folder, params, names, produces=MODEL if params.airflow.promote == "approve" else None)
    if params.airflow.promote == "auto":
        compare, _ = add_promotion(dag, folder, params, [workspace_asset(params, CHAMPION)])
        records[-1] >> compare
    return dag


def upstream(step: Step) -> list[str]:
    """Return the names of the steps whose outputs this step reads."""
    return [s.name for s in STEPS if {o.path for o in s.outputs} & set(step.inputs)]


def describe_dag(folder: Path, params: Params, summary: str) -> str:
    """Return a DAG's documentation as Markdown: the steps, what they read and write, where results are."""
    rows = [
        f"| **{s.name}** | {s.summary} | {', '.join(upstream(s)) or '-'} "
        f"| {', '.join(f'`{o.path}`' for o in s.outputs)} |"
        for s in STEPS
    ]
    stages = [f"`{params.name}.{stage.name}` ({', '.join(stage.steps)})" for stage in STAGES]
    name, mlflow = params.registry.name or params.name, mlflow_url()
    model = f"[{name}]({mlflow}/#/models/{name})" if mlflow else f"`{name}`"
    report, data_docs = report_url(params.name, "evaluation"), report_url(params.name, "validation")
    return "\n".join(
        [
            f"**{summary}**, in the workspace `{folder}`.",
            "",
            "| step | does | after | writes |",
            "|---|---|---|---|",
            *rows,
            "",
            f"DAGs: {', '.join(stages)}, `{params.name}.promote`, each started by the asset that the one before "
            f"updates; `{params.name}` is all of them in one run. `{params.name}.{MONITOR}` watches what is served.",
            "",
            f"Registered model: {model}. [Report]({report}), [Data Docs]({data_docs}); both are in `{folder}/reports`.",
            "",
            "A step that is up to date ends as skipped; its XCom `reason` and its log say why. "
            "`dvc repro` in the workspace runs the same steps.",
        ]
    )


def _make_dag(
    folder: Path,
    params: Params,
    dag_id: str,
    summary: str,
    *,
    schedule: Any,
    form: dict[str, Param] | None = None,
) -> DAG:
    airflow = params.airflow
    return DAG(
        dag_id=dag_id,
        description=f"{summary}: {params.task.name} with {params.model.name} on {params.features.name}",
        schedule=schedule,
        catchup=False,
        max_active_runs=1,
        tags=["audioml", params.name, params.task.name, *airflow.tags],
        params=form or {},
        default_args={
            "owner": airflow.owner,
            "on_failure_callback": failure_callbacks(params),
            **retry_arguments(airflow),
        },
        deadline=deadline_alerts(params),
        doc_md=describe_dag(folder, params, summary),
    )


def _fill(dag: DAG, folder: Path, params: Params, steps: Sequence[str], *, produces: str | None) -> list[Any]:
    """Add `begin`, the steps of these names, `publish` for the asset of this kind, and `end`.

    Returns the last Airflow task of each step.
    """
    common: dict[str, Any] = {"workspace": str(folder), "produces": produces}
    with dag:
        begin = BeginOperator(task_id="begin", defaults=params, steps=steps, **common)
        begin.as_setup()
    records = _add_steps(dag, folder, params, steps, begin)
    last = records[-1:]
    with dag:
        if produces:
            publish = PublishOperator(
                task_id=PUBLISH,
                workspace=str(folder),
                kind=produces,
                asset=workspace_asset(params, produces),
                trigger_rule=TriggerRule.NONE_FAILED,
            )
            records >> publish
            last = [publish]
        end = EndOperator(task_id="end", **common)
        end.as_teardown(setups=begin)
        last >> end
    return records


def _add_steps(dag: DAG, folder: Path, params: Params, names: Sequence[str], begin: BeginOperator) -> list[Any]:
    """Add the steps of these names, each after those it reads; return their last Airflow tasks."""
    last: dict[str, Any] = {}
    for step in (s for s in STEPS if s.name in names):
        before = [last[name] for name in upstream(step) if name in last]
        # What directly follows `begin` is skipped with it only if it asks for success.
        rule = TriggerRule.NONE_FAILED if before else TriggerRule.ALL_SUCCESS
        first, last[step.name] = add_step(dag, step, folder, params, first_rule=rule)
        (before or [begin]) >> first
    return list(last.values())
