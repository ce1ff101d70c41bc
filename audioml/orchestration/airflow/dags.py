"""Workspaces to DAGs.

A step is a task group. Its first Airflow task asks DVC whether the step must run and ends as skipped, with the
reason, if not; its last one records the outputs for DVC. Trigger rules: the first Airflow task of a step takes
``none_failed``, so that it decides for itself after a skipped step but not after a failed one; what follows
within the step is skipped or fails with it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, TaskGroup, TriggerRule

from audioml.errors import ParamsError
from audioml.orchestration.airflow.operators import (
    CollectOperator,
    PlanOperator,
    RecordOperator,
    RunOperator,
    WorkOperator,
)
from audioml.params import FILE_NAME, Params, load_params
from audioml.pipeline.graph import STEPS
from audioml.pipeline.step import Step

WORKSPACES_VARIABLE = "AUDIOML_WORKSPACES"
"""Environment variable: folders of workspaces, separated as in PATH, or by commas."""
DVC_POOL = "dvc"
"""Airflow pool with one slot for Airflow tasks that use DVC and little else; `audioml up` makes it."""
RETRY_DELAY_S = 10.0
"""Seconds before a killed step is tried again. Wrong params and bad data are never tried again."""


class BrokenWorkspace(DAG):  # type: ignore[misc]
    """Stands for a workspace whose params are not valid: Airflow lists its error beside the good DAGs."""

    def __init__(self, folder: Path, error: ParamsError) -> None:
        super().__init__(dag_id=f"broken.{re.sub('[^A-Za-z0-9_.-]', '_', folder.name)}", schedule=None)
        self.error = error

    def validate(self) -> None:
        """Raise what is wrong; Airflow's DAG bag calls this on each DAG and lists what it raises."""
        raise self.error


def build_dags(workspaces: Sequence[Path] | None = None, *, dag_file: str | Path | None = None) -> dict[str, DAG]:
    """Build the DAG of each workspace, by name.

    Parameters
    ----------
    workspaces : sequence of Path, optional
        Folders with a params.yaml. Default: those of the variable `AUDIOML_WORKSPACES`; where it is not
        set, the folder that holds the folder of `dag_file`.
    dag_file : path, optional
        The file that Airflow reads, as `__file__` there.

    Raises
    ------
    ParamsError
        When no workspace has valid params, or two have one name. When some have valid params, the others
        are listed by Airflow as import errors.
    """
    dags: dict[str, DAG] = {}
    folders: dict[str, Path] = {}
    errors: list[ParamsError] = []
    for folder in workspaces or find_workspaces(dag_file):
        try:
            params = load_params(folder)
        except ParamsError as error:
            errors.append(ParamsError(f"{folder}: {error}"))
            dags[f"broken {folder}"] = BrokenWorkspace(folder, errors[-1])
            continue
        if params.name in folders:
            raise ParamsError(
                f"{folders[params.name]} and {folder} are both called {params.name!r}. "
                f"Give one another 'name' in its {FILE_NAME}."
            )
        folders[params.name] = folder
        dags[params.name] = build_dag(folder, params)
    if errors and not folders:
        raise errors[0] if len(errors) == 1 else ParamsError("\n".join(map(str, errors)))
    return dags


def find_workspaces(dag_file: str | Path | None = None) -> list[Path]:
    """Return the folders that `AUDIOML_WORKSPACES` names, else the one that holds the folder of `dag_file`."""
    named = [f.strip() for f in re.split(f"[,{os.pathsep}]", os.environ.get(WORKSPACES_VARIABLE, "")) if f.strip()]
    if named:
        return [Path(folder).expanduser().resolve() for folder in named]
    if dag_file is None:
        raise ParamsError(f"No workspace is known: set {WORKSPACES_VARIABLE} to the folders of workspaces.")
    return [Path(dag_file).absolute().parents[1]]


def build_dag(folder: Path, params: Params) -> DAG:
    """Build the DAG of one workspace."""
    dag = DAG(
        dag_id=params.name,
        description=f"audioml: {params.task.name} with {params.model.name} on {params.features.name}",
        schedule=None,
        catchup=False,
        max_active_runs=1,
        tags=["audioml", params.task.name, params.model.name],
        default_args={"owner": "audioml", "retries": 1, "retry_delay": RETRY_DELAY_S},
        doc_md=describe_dag(folder, params),
    )
    ends: dict[str, Any] = {}
    for step in STEPS:
        outlets = [model_asset(params)] if step.name == "register" else []
        first, ends[step.name] = _add_step(dag, step, str(folder), outlets)
        for before in upstream(step):
            ends[before] >> first
    return dag


def upstream(step: Step) -> list[str]:
    """Return the names of the steps whose outputs this step reads."""
    return [s.name for s in STEPS if {o.path for o in s.outputs} & set(step.inputs)]


def model_asset(params: Params) -> Asset:
    """Return the Airflow asset that is updated when a version of the model is registered."""
    name = params.registry.name or params.name
    return Asset(name=f"model.{name}", uri=f"mlflow://models/{name}", group="model")


def describe_dag(folder: Path, params: Params) -> str:
    """Return the DAG's documentation as Markdown: its steps, what they read and write, where results are."""
    rows = [
        f"| **{s.name}** | {s.summary} | {', '.join(upstream(s)) or '-'} "
        f"| {', '.join(f'`{o.path}`' for o in s.outputs)} |"
        for s in STEPS
    ]
    mlflow_url = os.environ.get("MLFLOW_TRACKING_URI", "")
    name = params.registry.name or params.name
    model = f"[{name}]({mlflow_url}/#/models/{name})" if mlflow_url.startswith("http") else f"`{name}`"
    return "\n".join(
        [
            f"Pipeline of the workspace `{folder}`.",
            "",
            "| step | does | after | writes |",
            "|---|---|---|---|",
            *rows,
            "",
            f"Registered model: {model}. Report: `{folder}/reports/evaluation/index.html`. "
            f"Data Docs: `{folder}/reports/validation/`.",
            "",
            "A step that is up to date ends as skipped; its XCom `reason` and its log say why. "
            "`dvc repro` in the workspace runs the same steps.",
        ]
    )


def _add_step(dag: DAG, step: Step, workspace: str, outlets: list[Asset]) -> tuple[Any, Any]:
    """Add a step's task group; return its first and its last Airflow task."""
    common: dict[str, Any] = {"step": step.name, "workspace": workspace}
    decide = {"trigger_rule": TriggerRule.NONE_FAILED}
    with dag, TaskGroup(step.name, tooltip=step.summary):
        record = RecordOperator(task_id="record", pool=DVC_POOL, outlets=outlets, **common)
        if not step.mapped:
            first = RunOperator(task_id="run", **decide, **common)
            first >> record
            return first, record
        plan = PlanOperator(task_id="plan", pool=DVC_POOL, **decide, **common)
        work = WorkOperator.partial(task_id="work", map_index_template="{{ task.batch['label'] }}", **common).expand(
            batch=plan.output
        )
        collect = CollectOperator(task_id="collect", planned_by=plan.task_id, **decide, **common)
        plan >> work >> collect >> record
        return plan, record
