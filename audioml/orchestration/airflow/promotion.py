"""Promotion as a task group: compare the challenger with the champion, ask a person if so wished, move the alias.

It changes the registry alone, so that it needs no lease of the workspace: a question may wait for days.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Asset, Context, TaskGroup, TriggerRule
from airflow.sdk.exceptions import AirflowSkipException

from audioml.orchestration.airflow.alerts import approval_callbacks
from audioml.orchestration.airflow.links import RegisteredModelLink, ReportLink, report_url
from audioml.orchestration.airflow.operators import AudiomlOperator
from audioml.params import Params

GROUP = "promote"
NO_FIGURES = ("_low", "_high", "_n", "_left_out")
"""Ends of the names of what stands beside the metrics: bounds of the interval, numbers of clips."""
JUDGED, NEUTRAL = ("test_", "validation_", "noise_", "folds_"), ("_rejected_share", "folds_std")
"""Beginnings of the names of metrics that are better in the primary one's direction, and ends of those that are not."""
MAX_LABELS = 20
"""Metrics of single labels that are shown."""


def add_promotion(
    dag: DAG,
    folder: Path,
    params: Params,
    outlets: Sequence[Asset],
    *,
    first_rule: str = TriggerRule.ALL_SUCCESS,
) -> tuple[Any, Any]:
    """Add the task group `promote` to a DAG; return its first and its last Airflow task.

    Parameters
    ----------
    dag : DAG
        Where to.
    folder : Path
        The workspace.
    params : Params
        Of the workspace; with `airflow.promote` approve, a person is asked.
    outlets : sequence of Asset
        Updated when a champion was made.
    first_rule : str
        Trigger rule of the first Airflow task.
    """
    ask = params.airflow.promote == "approve"
    workspace = str(folder)
    with dag, TaskGroup(GROUP, tooltip="the challenger becomes champion"):
        compare = CompareOperator(
            task_id="compare", workspace=workspace, name=params.name, ask=ask, trigger_rule=first_rule
        )
        promote = PromoteOperator(task_id="promote", workspace=workspace, compared_by=compare.task_id, outlets=outlets)
        if not ask:
            compare >> promote
            return compare, promote
        compared = f"ti.xcom_pull(task_ids='{compare.task_id}')"
        approve = ApprovalOperator(
            task_id="approve",
            subject=f"{{{{ {compared}['subject'] }}}}",
            body=f"{{{{ {compared}['body'] }}}}",
            notifiers=approval_callbacks(params),
        )
        promote.approved_by = approve.task_id
        compare >> approve >> promote
    return compare, promote


class CompareOperator(AudiomlOperator):
    """Challenger and champion side by side; skipped, with the reason, when there is nothing to promote."""

    # It may run beside the `end` of its DAG.
    ends_with_run = False
    operator_extra_links = (RegisteredModelLink(), ReportLink())

    def __init__(self, *, name: str, ask: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.ask = ask

    def execute(self, context: Context) -> dict[str, Any]:
        """Return the version, and the question as Markdown.

        Without a person to ask, a challenger that is not promotable ends here as skipped.
        """
        found = json.loads(self.run_audioml("models", "compare", "--json", capture=True))
        context["ti"].xcom_push(key="reason", value=found["reason"])
        self.log.info("%s", found["reason"])
        challenger, champion = found["challenger"], found["champion"]
        nothing_new = challenger is None or (champion and champion["version"] == challenger["version"])
        if nothing_new or not (self.ask or found["promotable"]):
            raise AirflowSkipException(found["reason"])
        body = describe_comparison(found, report_url(self.name, "evaluation"))
        self.log.info("%s", body)
        return {
            "version": challenger["version"],
            "champion": champion["version"] if champion else 0,
            "reason": found["reason"],
            "subject": f"Make version {challenger['version']} of {found['model']} its champion?",
            "body": body,
        }


class PromoteOperator(AudiomlOperator):
    """Make the version that was compared the champion."""

    ends_with_run = False
    operator_extra_links = (RegisteredModelLink(),)

    def __init__(self, *, compared_by: str, approved_by: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.compared_by = compared_by
        self.approved_by = approved_by

    def execute(self, context: Context) -> dict[str, Any]:
        """Return what the event of the asset carries: version, metrics, who, when, why, links."""
        ti = context["ti"]
        compared = ti.xcom_pull(task_ids=self.compared_by)
        answer = ti.xcom_pull(task_ids=self.approved_by) if self.approved_by else None
        who = f"DAG run {ti.run_id} of {ti.dag_id}"
        user = (answer or {}).get("responded_by_user")
        by = user["name"] if user else context["dag_run"].triggering_user_name or who
        options = [f"--by={by}", f"--reason={'approved' if user else compared['reason']} ({who})"]
        # A person who saw the metrics decides, for a worse one too; but not over a champion made since.
        force = ["--force", f"--instead-of={compared['champion']}"] if user else []
        command = ["models", "promote", str(compared["version"]), *options, *force, "--json"]
        facts = champion_facts(json.loads(self.run_audioml(*command, capture=True)))
        for outlet in self.outlets:
            context["outlet_events"][outlet].extra = facts
        return facts


def champion_facts(answer: dict[str, Any]) -> dict[str, Any]:
    """Return what an event of the champion's asset carries, from the answer of `audioml models promote`."""
    champion = answer["challenger"]
    return {
        "name": answer["model"],
        "version": champion["version"],
        "metrics": champion["metrics"],
        "promotion": answer.get("promotion", {}),
        "hashes": {"data/manifest.parquet": champion["dataset_digest"]},
        "links": {"run": champion["run_url"], "model": champion["version_url"]},
    }


def describe_comparison(found: dict[str, Any], report: str) -> str:
    """Return the comparison as Markdown: metrics side by side, the better one in bold, and links."""
    challenger, champion = found["challenger"], found["champion"]
    header = f"| | challenger: {_link(challenger)} | champion: {_link(champion) if champion else 'none yet'} |"
    rows = [row for row in found["metrics"] if not row[0].endswith(NO_FIGURES)]
    labels = [row for row in rows if "/" in row[0]]
    shown = [row for row in rows if "/" not in row[0]] + labels[:MAX_LABELS]
    paired = found["paired"]
    decides = found["primary"] if paired is None else f"{found['primary']} on the same {paired['n']} clips"
    if paired:
        shown = [[decides, paired["ours"], paired["theirs"]], *shown]
    table = [
        _row(f"{name} (decides)" if name == decides else name, ours, theirs, found["higher_is_better"])
        for name, ours, theirs in shown
    ]
    notes = [found["reason"]]
    if found["not_paired"]:
        notes.append(f"Not compared on the same clips: {found['not_paired']}")
    if len(labels) > MAX_LABELS:
        notes.append(f"{len(labels) - MAX_LABELS} more labels are in the report.")
    words = {True: "passed", False: "**failed**", None: "does not apply"}
    gates = [f"| {gate['name']} | {words[gate['passed']]} | {_escape(gate['said'])} |" for gate in found["gates"]]
    if gates:
        table += ["", "| gate | | what it says |", "|---|---|---|", *gates]
    measured = "The other rows were measured" if paired else "They were measured"
    if found["same_dataset"] is False:
        notes.append(f"**{measured} on different datasets**, so that the figures can't simply be compared.")
    elif found["same_test_set"] is False:
        notes.append(f"**{measured} on different test sets** of one dataset.")
    pages = [f"[{name}]({url})" for name, url in _pages(challenger, champion, report) if url]
    return "\n".join([header, "|---|---|---|", *table, "", *notes, "", " · ".join(pages)])


def _row(name: str, ours: float | None, theirs: float | None, higher_is_better: bool) -> str:
    cells = ["–" if value is None else f"{value:.4g}" for value in (ours, theirs)]
    directed = name.startswith(JUDGED) and not name.endswith(NEUTRAL)
    if directed and ours is not None and theirs is not None and ours != theirs:
        better = 0 if (ours > theirs) == higher_is_better else 1
        cells[better] = f"**{cells[better]}**"
    return f"| {_escape(name)} | {cells[0]} | {cells[1]} |"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("_", "\\_")


def _link(candidate: dict[str, Any]) -> str:
    name = f"version {candidate['version']}"
    return f"[{name}]({candidate['version_url']})" if candidate["version_url"] else name


def _pages(challenger: dict[str, Any], champion: dict[str, Any] | None, report: str) -> list[tuple[str, str]]:
    pages = [("MLflow run of the challenger", challenger["run_url"])]
    if champion:
        pages.append(("MLflow run of the champion", champion["run_url"]))
    return [*pages, ("Report of the challenger", report)]
