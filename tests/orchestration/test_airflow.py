import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioml.errors import ParamsError
from audioml.orchestration.dag_file import DAG_FILE, DAG_FILE_PATH
from audioml.pipeline.graph import STEPS

from .conftest import write_workspace

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "mlflow", "librosa", "great_expectations", "sklearn", "matplotlib", "pytorch_lightning", "dvc")


@pytest.fixture
def dag(workspace):
    from audioml.orchestration.airflow import build_dags

    return build_dags([workspace])["birds"]


def test_dag_file_of_the_repository_is_the_one_that_init_writes():
    assert (REPOSITORY / DAG_FILE_PATH).read_text(encoding="utf-8") == DAG_FILE


def test_parsing_imports_nothing_heavy(workspace):
    code = f"""
import runpy, sys
names = runpy.run_path({str(workspace / DAG_FILE_PATH)!r})
assert "birds" in names, sorted(names)
heavy = [m for m in {HEAVY} if m in sys.modules]
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr


def test_a_step_is_a_group_and_mapped_steps_have_four_parts(dag):
    parts = {
        step.name: [t.task_id.split(".")[1] for t in dag.tasks if t.task_id.startswith(step.name)] for step in STEPS
    }
    assert {name: sorted(p) for name, p in parts.items()} == {
        step.name: sorted(["plan", "work", "collect", "record"] if step.mapped else ["run", "record"]) for step in STEPS
    }
    assert set(dag.task_group.children) == {step.name for step in STEPS}


def test_a_step_follows_the_records_of_the_steps_it_reads(dag):
    for step in STEPS:
        first = dag.get_task(f"{step.name}.plan" if step.mapped else f"{step.name}.run")
        reads = {f"{s.name}.record" for s in STEPS if {o.path for o in s.outputs} & set(step.inputs)}
        assert first.upstream_task_ids == reads
        assert first.trigger_rule == "none_failed"
        record = dag.get_task(f"{step.name}.record")
        assert record.trigger_rule == "all_success"
        assert record.pool == "dvc"
    assert dag.get_task("train.run").upstream_task_ids == {"ingest.record", "split.record", "featurize.record"}


def test_work_is_mapped_over_the_plan(dag):
    work, collect = dag.get_task("featurize.work"), dag.get_task("featurize.collect")
    assert work.is_mapped
    assert work.upstream_task_ids == {"featurize.plan"}
    assert collect.upstream_task_ids == {"featurize.work"}
    assert collect.trigger_rule == "none_failed"


def test_runs_are_manual_one_at_a_time_and_register_updates_an_asset(dag):
    assert dag.schedule is None
    assert not dag.catchup
    assert dag.max_active_runs == 1
    assert [a.name for a in dag.get_task("register.record").outlets] == ["model.birds"]
    assert all(step.name in dag.doc_md for step in STEPS)


def test_workspaces_come_from_the_variable_or_the_dag_file(tmp_path, monkeypatch):
    from audioml.orchestration.airflow import build_dags

    a, b = (write_workspace(tmp_path / name, name) for name in "ab")
    monkeypatch.delenv("AUDIOML_WORKSPACES", raising=False)
    assert set(build_dags(dag_file=a / DAG_FILE_PATH)) == {"a"}
    for separator in (os.pathsep, ",", " , "):
        monkeypatch.setenv("AUDIOML_WORKSPACES", f"{a}{separator}{b}")
        assert set(build_dags(dag_file=a / DAG_FILE_PATH)) == {"a", "b"}
    monkeypatch.setenv("AUDIOML_WORKSPACES", "")
    with pytest.raises(ParamsError, match="AUDIOML_WORKSPACES"):
        build_dags()


def test_bad_params_name_the_workspace_and_the_key(tmp_path):
    from audioml.orchestration.airflow import build_dags

    bad = write_workspace(tmp_path / "bad", more="sed: 1\n")
    with pytest.raises(ParamsError, match=rf"{bad}: .*unknown key 'sed'.*Did you mean 'seed'"):
        build_dags([bad])


def test_two_workspaces_of_one_name(tmp_path):
    from audioml.orchestration.airflow import build_dags

    with pytest.raises(ParamsError, match="both called 'birds'"):
        build_dags([write_workspace(tmp_path / "a"), write_workspace(tmp_path / "b")])


def test_a_broken_workspace_is_an_import_error_and_spares_the_others(tmp_path, monkeypatch):
    from airflow.dag_processing.dagbag import DagBag

    good, bad = write_workspace(tmp_path / "good"), write_workspace(tmp_path / "bad", more="sed: 1\n")
    monkeypatch.setenv("AUDIOML_WORKSPACES", f"{bad},{good}")
    bag = DagBag(str(good / "dags"), bundle_path=good / "dags", bundle_name="dags-folder")
    assert set(bag.dags) == {"birds"}
    assert "unknown key 'sed'" in bag.import_errors["audioml_dags.py"]


class TaskInstance:
    """What an operator uses of Airflow's task instance."""

    def __init__(self, planned=None):
        self.pushed = {}
        self.planned = planned

    def xcom_push(self, key, value):
        self.pushed[key] = value

    def xcom_pull(self, task_ids):
        return self.planned


FAKE = """
import json, os, signal, sys
answers = json.load(open("answers.json"))
with open("calls.txt", "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
answer = answers.get(sys.argv[1], {})
if "signal" in answer:
    os.kill(os.getpid(), answer["signal"])
if "error" in answer:
    print("Error", answer["error"], file=sys.stderr)
    sys.exit(1)
print(json.dumps(answer))
"""


@pytest.fixture
def fake(workspace, monkeypatch):
    """Put a script in the place of audioml's command line; returns how to set its answers and read its calls."""
    from audioml.orchestration.airflow import operators

    (workspace / "fake.py").write_text(FAKE)
    monkeypatch.setattr(operators, "command", lambda *arguments: [sys.executable, "fake.py", *arguments])

    def answer(**answers):
        (workspace / "answers.json").write_text(json.dumps(answers))

    def calls():
        path = workspace / "calls.txt"
        return path.read_text().splitlines() if path.exists() else []

    return answer, calls


def execute(dag, task_id, ti=None):
    ti = ti or TaskInstance()
    return dag.get_task(task_id).execute({"ti": ti}), ti


RUN = {"run": True, "reasons": ["param seed: 0 -> 1", "code changed: store"]}
KEEP = {"run": False, "reasons": ["up to date"]}


def test_a_step_runs_when_it_must(dag, fake):
    answer, calls = fake
    answer(plan={"train": RUN})
    _, ti = execute(dag, "train.run")
    assert calls() == ["plan train --restore --json", "run train"]
    assert ti.pushed == {"reason": "param seed: 0 -> 1; code changed: store"}


def test_a_step_that_is_up_to_date_is_skipped_with_the_reason(dag, fake):
    from airflow.sdk.exceptions import AirflowSkipException

    answer, calls = fake
    answer(plan={"train": KEEP, "ingest": KEEP})
    for task_id in ("train.run", "ingest.plan"):
        with pytest.raises(AirflowSkipException, match=r"^up to date$"):
            execute(dag, task_id)
    assert calls() == ["plan train --restore --json", "plan ingest --restore --json"]


def test_an_error_of_the_user_is_not_tried_again_and_a_kill_is(dag, fake):
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    answer, _ = fake
    answer(plan={"train": RUN}, run={"error": "no clips"})
    with pytest.raises(AirflowFailException, match=r"^audioml run train: no clips$"):
        execute(dag, "train.run")
    answer(plan={"train": RUN}, run={"signal": signal.SIGKILL})
    with pytest.raises(AirflowException, match="killed by SIGKILL") as caught:
        execute(dag, "train.run")
    assert not isinstance(caught.value, AirflowFailException)
    assert dag.get_task("train.run").retries == 1


def test_collect_runs_after_an_empty_plan_but_not_after_a_skipped_one(dag, fake):
    from airflow.sdk.exceptions import AirflowSkipException

    answer, calls = fake
    answer()
    execute(dag, "ingest.collect", TaskInstance(planned=[]))
    assert calls() == ["run ingest --collect"]
    with pytest.raises(AirflowSkipException):
        execute(dag, "ingest.collect", TaskInstance(planned=None))


def test_work_does_its_items_in_turn(workspace, fake):
    from audioml.orchestration.airflow.operators import WorkOperator

    answer, calls = fake
    answer()
    batch = {"items": ["a", "b"], "label": "2"}
    work = WorkOperator(task_id="work", step="ingest", workspace=str(workspace), batch=batch)
    assert work.execute({"ti": TaskInstance()}) == 2
    assert calls() == ["run ingest --item a", "run ingest --item b"]


@given(st.integers(0, 200), st.integers(1, 50))
def test_batches_hold_every_item_once_in_order(n_items, limit):
    from audioml.orchestration.airflow.operators import make_batches

    items = [{"id": str(i), "label": f"{i} clips"} for i in range(n_items)]
    batches = make_batches(items, limit)
    assert [i for b in batches for i in b["items"]] == [i["id"] for i in items]
    assert len(batches) == min(limit, n_items)
    sizes = [len(b["items"]) for b in batches]
    assert not sizes or max(sizes) - min(sizes) <= 1
    assert all(b["label"].startswith(f"{b['items'][0]} clips") for b in batches)
