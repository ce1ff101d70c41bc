"""Operators of a step, with a script in the place of audioml's command line."""

import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st


class TaskInstance:
    """What an operator uses of Airflow's task instance."""

    dag_id = "birds"

    def __init__(self, planned=None, states=None):
        self.pushed = {}
        self.planned = planned
        self.states = states or {}

    def xcom_push(self, key, value):
        self.pushed[key] = value

    def xcom_pull(self, task_ids):
        return self.planned

    def get_task_states(self, run_ids, **_):
        return {run_ids[0]: self.states}


@pytest.fixture
def dag(workspace):
    from audioml.orchestration.airflow import build_dags

    return build_dags(workspace)["birds"]


def execute(dag, task_id, ti=None):
    ti = ti or TaskInstance()
    return dag.get_task(task_id).execute({"ti": ti, "run_id": "manual"}), ti


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


@pytest.mark.parametrize(
    ("answer", "says", "action"),
    [
        ({"error": "no clips"}, "audioml run train: no clips", "fail"),
        ({"error": "disk gone", "status": 74}, "disk gone", "retry"),
        ({"error": "no server", "status": 75}, "no server", "retry"),
        ({"signal": signal.SIGKILL}, "killed by SIGKILL", "retry"),
    ],
)
def test_bad_input_fails_at_once_and_a_fault_of_the_machine_is_tried_again(dag, fake, answer, says, action):
    from airflow.sdk.exceptions import AirflowException

    set_answers, _ = fake
    set_answers(plan={"train": RUN}, run=answer)
    with pytest.raises(AirflowException, match=says) as caught:
        execute(dag, "train.run")
    task = dag.get_task("train.run")
    assert task.retry_policy.evaluate(caught.value, 1, task.retries).action.value == action
    assert task.retry_exponential_backoff > 1


def batches(count):
    return [{"items": [f"i{n}"], "label": f"{n} clips"} for n in range(count)]


def states(count, *failed, mapped="ingest.work"):
    return {f"{mapped}_{n}": "failed" if n in failed else "success" for n in range(count)}


def test_recheck_finds_nothing_to_do_when_all_is_done(dag, fake):
    _, calls = fake
    assert execute(dag, "ingest.recheck", TaskInstance(planned=batches(2), states=states(2)))[0] == []
    assert calls() == []


def test_recheck_gives_each_failed_item_to_an_airflow_task_of_its_own(dag, fake):
    _, calls = fake
    planned = batches(10)
    planned[3] = {"items": ["a", "b"], "label": "2 items, 7 clips: 3 clips ..."}
    found, ti = execute(dag, "ingest.recheck", TaskInstance(planned=planned, states=states(10, 3)))
    assert found == [
        {"items": ["a"], "label": "1 of 2 items, 7 clips: 3 clips ..."},
        {"items": ["b"], "label": "2 of 2 items, 7 clips: 3 clips ..."},
    ]
    assert ti.pushed == {"failed": ["2 items, 7 clips: 3 clips ..."]}
    assert calls() == [], "what has come meanwhile must not be planned into this run"


def test_recheck_stops_the_step_when_too_many_items_failed(dag, fake):
    from audioml.orchestration.airflow.retries import BadInput

    says = r"2 of 10 failed \(1 clips; 2 clips\), but airflow.max_failed_share is 0.1"
    with pytest.raises(BadInput, match=says):
        execute(dag, "ingest.recheck", TaskInstance(planned=batches(10), states=states(10, 1, 2)))


def test_recheck_counts_an_airflow_task_that_never_ran_as_failed(dag, fake):
    known = states(11)
    del known["ingest.work_10"]
    found, _ = execute(dag, "ingest.recheck", TaskInstance(planned=batches(11), states=known))
    assert [batch["items"] for batch in found] == [["i10"]]


def test_recheck_is_skipped_without_a_plan(dag, fake):
    from airflow.sdk.exceptions import AirflowSkipException

    with pytest.raises(AirflowSkipException):
        execute(dag, "ingest.recheck", TaskInstance())


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
    assert calls() == ["run ingest --item a --item b"]


@given(st.integers(0, 200), st.integers(1, 50))
def test_batches_hold_every_item_once_in_order(n_items, limit):
    from audioml.orchestration.airflow.operators import make_batches

    items = [{"id": str(i), "label": f"{i} clips", "clips": i} for i in range(n_items)]
    batches = make_batches(items, limit)
    assert [i for b in batches for i in b["items"]] == [i["id"] for i in items]
    assert len(batches) == min(limit, n_items)
    sizes = [len(b["items"]) for b in batches]
    assert not sizes or max(sizes) - min(sizes) <= 1
    for batch, size in zip(batches, sizes, strict=True):
        first = f"{batch['items'][0]} clips"
        total = sum(int(i) for i in batch["items"])
        assert batch["label"] == (first if size == 1 else f"{size} items, {total:,} clips: {first} ...")


def test_publish_sends_what_describe_says(workspace, fake):
    from airflow.sdk import Asset

    from audioml.orchestration.airflow.operators import PublishOperator

    answer, calls = fake
    answer(describe={"clips": 3})
    (workspace / "dvc.lock").write_text("stages: {ingest: {outs: [{path: data/manifest.parquet, md5: abc}]}}")
    asset = Asset("birds.dataset")
    events = {asset: type("Event", (), {"extra": {}})()}
    publish = PublishOperator(task_id="publish", workspace=str(workspace), asset=asset, kind="dataset")
    publish.execute({"ti": TaskInstance(), "outlet_events": events})
    assert events[asset].extra == {"clips": 3}
    assert calls() == ["describe dataset --json"]


def test_an_asset_is_told_of_once(workspace, fake):
    from airflow.sdk import Asset
    from airflow.sdk.exceptions import AirflowSkipException

    from audioml.orchestration.airflow.operators import PublishOperator
    from audioml.orchestration.facts import note_published
    from audioml.pipeline.context import Context

    answer, _ = fake
    answer(describe={"hashes": {}})
    (workspace / "dvc.lock").write_text("stages: {ingest: {outs: [{path: data/manifest.parquet, md5: abc}]}}")
    publish = PublishOperator(task_id="publish", workspace=str(workspace), asset=Asset("birds.dataset"), kind="dataset")
    context = {"ti": TaskInstance(), "outlet_events": {Asset("birds.dataset"): type("Event", (), {})()}}
    publish.execute(context)
    note_published(Context.load(workspace), "dataset", {"data/manifest.parquet": "abc"})
    with pytest.raises(AirflowSkipException, match="dataset is what its last event told of"):
        publish.execute(context)
