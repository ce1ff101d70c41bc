"""The task group `promote`, with answers in the place of audioml's command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from audioml.orchestration.airflow import build_dags
from audioml.orchestration.airflow.promotion import describe_comparison

from ..conftest import write_workspace

HOOK = "  notify:\n    - {name: webhook, url: 'https://hook.example'}\n"


def candidate(version: int, accuracy: float, **metrics: float) -> dict[str, Any]:
    return {
        "version": version,
        "metrics": {"test_accuracy": accuracy, **metrics},
        "dataset_digest": "d" * 32,
        "run_url": f"https://mlflow.example/#/runs/r{version}",
        "version_url": f"https://mlflow.example/#/models/birds/versions/{version}",
    }


def comparison(accuracy: float, **more: Any) -> dict[str, Any]:
    better = accuracy >= 0.8
    return {
        "model": "birds",
        "primary": "test_accuracy",
        "higher_is_better": True,
        "metrics": [
            ["test_accuracy", accuracy, 0.8],
            ["test_low", 0.1, 0.2],
            ["test_macro_f1", 0.5, None],
            ["test_f1/a|b", 0.25, 0.25],
        ],
        "challenger": candidate(4, accuracy),
        "champion": candidate(3, 0.8),
        "paired": None,
        "not_paired": "",
        "gates": [],
        "same_dataset": True,
        "same_test_set": True,
        "promotable": better,
        "reason": "Version 4 is better." if better else "Version 4 is worse.",
        **more,
    }


class Run:
    """A run of the group: what is asked of audioml, and what its Airflow tasks hand on."""

    def __init__(self, folder: Path, mode: str, /, **answers: Any) -> None:
        write_workspace(folder, more=f"airflow:\n  promote: {mode}\n{HOOK}")
        self.dag = build_dags(folder)["birds.promote"]
        self.answers = answers
        self.calls: list[list[str]] = []
        self.pulled: dict[str, Any] = {}
        self.pushed: dict[str, Any] = {}
        self.events: dict[Any, Any] = {}
        self.user: str | None = None

    def run(self, part: str) -> Any:
        task = self.dag.get_task(f"promote.{part}")

        def run_audioml(*arguments: str, **_: Any) -> str:
            self.calls.append(list(arguments))
            return json.dumps(self.answers[arguments[1]])

        task.run_audioml = run_audioml
        self.events = {asset: SimpleNamespace(extra={}) for asset in task.outlets}
        ti = SimpleNamespace(
            dag_id="birds.promote",
            run_id="run-1",
            xcom_push=lambda key, value: self.pushed.update({key: value}),
            xcom_pull=lambda task_ids: self.pulled.get(task_ids),
        )
        context = {"ti": ti, "dag_run": SimpleNamespace(triggering_user_name=self.user), "outlet_events": self.events}
        self.pulled[task.task_id] = task.execute(context)
        return self.pulled[task.task_id]

    def approve(self, name: str) -> None:
        self.pulled["promote.approve"] = {"responded_by_user": {"id": "1", "name": name}}


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Run]:
    return lambda mode, /, **answers: Run(tmp_path / "birds", mode, **answers)


@pytest.mark.parametrize(("promote", "parts"), [("auto", 2), ("approve", 3), ("manual", 2)])
def test_a_person_is_asked_only_if_so_wished(tmp_path: Path, promote: str, parts: int) -> None:
    dags = build_dags(write_workspace(tmp_path / "birds", more=f"airflow:\n  promote: {promote}\n{HOOK}"))
    dag = dags["birds.promote"]
    assert len(dag.tasks) == parts
    assert [asset.name for asset in dag.get_task("promote.promote").outlets] == ["birds.champion"]
    assert bool(dag.schedule) is (promote != "manual")
    chain = dags["birds"]
    assert chain.has_task("promote.compare") is (promote == "auto")
    # A question that waits must not hold the chain's next run: the promote DAG asks.
    published = [asset.name for task in chain.tasks if task.task_id == "publish" for asset in task.outlets]
    assert published == (["birds.model"] if promote == "approve" else [])
    if promote == "approve":
        # A question that waits for days must not hold the workspace, nor time out.
        assert "promote.compare" not in dags["birds"].get_task("end").upstream_task_ids
        assert dag.get_task("promote.approve").response_timeout is None
        assert len(dag.get_task("promote.approve").notifiers) == 1


def test_a_better_challenger_is_promoted(make_run: Callable[..., Run]) -> None:
    found = comparison(0.9)
    run = make_run("auto", compare=found, promote={**found, "promoted": True, "promotion": {"by": "x"}})
    assert run.run("compare")["version"] == 4
    facts = run.run("promote")
    who = "DAG run run-1 of birds.promote"
    assert run.calls[1] == [
        *("models", "promote", "4"),
        *(f"--by={who}", f"--reason=Version 4 is better. ({who})", "--json"),
    ]
    (event,) = run.events.values()
    assert event.extra == facts
    assert (facts["version"], facts["metrics"], facts["promotion"]) == (4, {"test_accuracy": 0.9}, {"by": "x"})
    assert facts["hashes"] == {"data/manifest.parquet": "d" * 32}
    assert facts["links"]["run"] == "https://mlflow.example/#/runs/r4"


def test_who_started_the_run_is_who_promotes(make_run: Callable[..., Run]) -> None:
    found = comparison(0.9)
    run = make_run("manual", compare=found, promote=found)
    run.user = "ann"
    run.run("compare")
    run.run("promote")
    assert "--by=ann" in run.calls[1]


@pytest.mark.parametrize("promote", ["auto", "manual"])
def test_a_worse_challenger_is_skipped_with_the_reason(make_run: Callable[..., Run], promote: str) -> None:
    run = make_run(promote, compare=comparison(0.7))
    with pytest.raises(AirflowSkipException, match=r"Version 4 is worse\."):
        run.run("compare")
    assert run.pushed == {"reason": "Version 4 is worse."}


def test_a_person_decides_about_a_worse_one_too(make_run: Callable[..., Run]) -> None:
    found = comparison(0.7)
    run = make_run("approve", compare=found, promote=found)
    assert run.run("compare")["subject"] == "Make version 4 of birds its champion?"
    run.approve("ann")
    run.run("promote")
    reason = "--reason=approved (DAG run run-1 of birds.promote)"
    assert run.calls[1][2:-1] == ["4", "--by=ann", reason, "--force", "--instead-of=3"]


@pytest.mark.parametrize("promote", ["auto", "approve"])
@pytest.mark.parametrize("nothing", [{"challenger": None}, {"challenger": candidate(3, 0.8)}])
def test_nobody_is_asked_when_there_is_nothing_new(
    make_run: Callable[..., Run], promote: str, nothing: dict[str, Any]
) -> None:
    run = make_run(promote, compare=comparison(0.8, **nothing, reason="nothing new"))
    with pytest.raises(AirflowSkipException, match="nothing new"):
        run.run("compare")


def test_the_question_has_the_metrics_side_by_side() -> None:
    body = describe_comparison(comparison(0.9), "https://airflow.example/report")
    assert body.splitlines() == [
        "| | challenger: [version 4](https://mlflow.example/#/models/birds/versions/4) "
        "| champion: [version 3](https://mlflow.example/#/models/birds/versions/3) |",
        "|---|---|---|",
        "| test\\_accuracy (decides) | **0.9** | 0.8 |",
        "| test\\_macro\\_f1 | 0.5 | – |",
        "| test\\_f1/a\\|b | 0.25 | 0.25 |",
        "",
        "Version 4 is better.",
        "",
        "[MLflow run of the challenger](https://mlflow.example/#/runs/r4) · "
        "[MLflow run of the champion](https://mlflow.example/#/runs/r3) · "
        "[Report of the challenger](https://airflow.example/report)",
    ]


def test_the_question_says_what_makes_figures_hard_to_compare() -> None:
    lower = comparison(0.9, higher_is_better=False, same_test_set=False)
    body = describe_comparison(lower, "")
    assert "| test\\_accuracy (decides) | 0.9 | **0.8** |" in body
    assert "different test sets" in body
    assert "different datasets" in describe_comparison(comparison(0.9, same_dataset=False), "")
    many = comparison(0.9, metrics=[[f"test_f1/{i}", 0.1, 0.1] for i in range(30)], champion=None)
    assert "10 more labels" in describe_comparison(many, "")
    assert "champion: none yet" in describe_comparison(many, "")


def test_the_question_shows_what_decides() -> None:
    same_clips = comparison(0.7, paired={"n": 12, "ours": 0.9, "theirs": 0.75}, same_test_set=False)
    lines = describe_comparison(same_clips, "").splitlines()
    assert lines[2:4] == [
        "| test\\_accuracy on the same 12 clips (decides) | **0.9** | 0.75 |",
        "| test\\_accuracy | 0.7 | **0.8** |",
    ]
    assert "**The other rows were measured on different test sets** of one dataset." in lines
    apart = describe_comparison(comparison(0.9, not_paired="No clips here."), "")
    assert "Not compared on the same clips: No clips here." in apart
    assert "test\\_accuracy (decides)" in apart


def test_what_has_no_better_side_is_not_marked() -> None:
    metrics = [["test_accuracy", 0.9, 0.8], ["test_rejected_share", 0.1, 0.0], ["model_multiply_adds", 5e6, 4e6]]
    metrics += [["folds_mean", 0.7, 0.6], ["folds_std", 0.1, 0.2]]
    body = describe_comparison(comparison(0.9, metrics=metrics), "")
    assert body.count("**") == 4
    assert "| folds\\_mean | **0.7** | 0.6 |" in body
    assert "| model\\_multiply\\_adds | 5e+06 | 4e+06 |" in body
