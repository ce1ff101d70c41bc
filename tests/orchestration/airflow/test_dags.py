"""The DAGs of workspaces, as Airflow sees them."""

import os
from itertools import pairwise
from pathlib import Path

import pytest

from audioml.errors import ParamsError
from audioml.orchestration.dag_file import DAG_FILE, DAG_FILE_PATH
from audioml.pipeline.graph import STEPS

from ..conftest import write_workspace

REPOSITORY = Path(__file__).resolve().parents[3]
STAGES = {
    "birds.ingest": ["ingest", "validate"],
    "birds.features": ["split", "featurize"],
    "birds.train": ["train", "evaluate", "register"],
}
MAPPED = ["plan", "work", "recheck", "retry", "collect", "record"]


@pytest.fixture
def dags(workspace):
    from audioml.orchestration.airflow import build_dags

    return build_dags(workspace)


@pytest.fixture
def chain(dags):
    return dags["birds"]


def test_dag_file_of_the_repository_is_the_one_that_init_writes():
    assert (REPOSITORY / DAG_FILE_PATH).read_text(encoding="utf-8") == DAG_FILE


def groups(dag):
    return [name for name in dag.task_group.children if name in {step.name for step in STEPS}]


def test_each_stage_has_its_steps_and_the_chain_has_all(dags):
    assert {dag_id: groups(dag) for dag_id, dag in dags.items() if dag_id in STAGES} == STAGES
    assert groups(dags["birds"]) == [step.name for step in STEPS]


def test_a_step_is_a_group_of_its_parts(dags):
    for dag in dags.values():
        for step in STEPS:
            parts = [t.task_id.split(".")[1] for t in dag.tasks if t.task_id.startswith(f"{step.name}.")]
            expected = MAPPED if step.mapped else ["run", "record"]
            assert sorted(parts) == (sorted(expected) if step.name in groups(dag) else [])


def test_stages_hand_on_to_each_other_by_assets(dags):
    published = {
        dag_id: [asset.uri for asset in dag.get_task("publish").outlets]
        for dag_id, dag in dags.items()
        if dag_id in STAGES
    }
    assert published == {
        "birds.ingest": ["audioml://birds/dataset"],
        "birds.features": ["audioml://birds/features"],
        "birds.train": ["audioml://birds/model"],
    }
    scheduled = {dag_id: [asset.uri for asset in dags[dag_id].schedule or []] for dag_id in STAGES}
    assert scheduled == {
        "birds.ingest": [],
        "birds.features": ["audioml://birds/dataset"],
        "birds.train": ["audioml://birds/features"],
    }
    for dag_id in STAGES:
        publish = dags[dag_id].get_task("publish")
        assert publish.upstream_task_ids == {f"{name}.record" for name in STAGES[dag_id]}
        assert publish.trigger_rule == "none_failed"


def test_the_chain_starts_no_stage(chain):
    assert chain.schedule is None
    started = {f"audioml://birds/{kind}" for kind in ("dataset", "features", "model")}
    assert not started & {asset.uri for task in chain.tasks for asset in task.outlets}


def test_a_step_follows_the_records_of_the_steps_it_reads(chain):
    for step in STEPS:
        first = chain.get_task(f"{step.name}.plan" if step.mapped else f"{step.name}.run")
        reads = {f"{s.name}.record" for s in STEPS if {o.path for o in s.outputs} & set(step.inputs)}
        assert first.upstream_task_ids == (reads or {"begin"})
        assert first.trigger_rule == ("none_failed" if reads else "all_success")
        record = chain.get_task(f"{step.name}.record")
        assert record.trigger_rule == "all_success"
        assert record.pool == "dvc"
    assert chain.get_task("train.run").upstream_task_ids == {"ingest.record", "split.record", "featurize.record"}


def test_every_run_begins_with_the_lease_and_ends_by_giving_it_back(dags):
    # Promotion works on the registry alone, monitoring on it and on the log of predictions.
    for dag_id in ("birds.promote", "birds.monitor"):
        assert not dags.pop(dag_id).has_task("begin")
    for dag in dags.values():
        assert dag.get_task("begin").is_setup
        assert dag.get_task("begin").upstream_task_ids == set()
        end = dag.get_task("end")
        assert end.is_teardown
        assert end.trigger_rule == "all_done_setup_success"
        # A leaf that fails must fail the run, so the teardown is no leaf that counts.
        assert not end.on_failure_fail_dagrun
        assert dag.max_active_runs == 1
        assert not dag.catchup


def test_work_is_mapped_over_the_plan_and_retry_over_what_failed(chain):
    tasks = {part: chain.get_task(f"featurize.{part}") for part in MAPPED}
    assert {part for part, task in tasks.items() if task.is_mapped} == {"work", "retry"}
    after_plan = {"collect": {"featurize.plan"}}
    for before, after in pairwise(MAPPED):
        assert tasks[after].upstream_task_ids == {f"featurize.{before}", *after_plan.get(after, ())}
    assert tasks["recheck"].trigger_rule == "all_done"
    assert tasks["collect"].trigger_rule == "none_failed"


def with_airflow(folder, **values):
    """Build the DAGs of a workspace whose params have these values in the section airflow."""
    import yaml

    from audioml.orchestration.airflow import build_dags

    return build_dags(write_workspace(folder, more=yaml.safe_dump({"airflow": values})))


def test_params_say_owner_tags_pools_times_and_parallel_items(tmp_path):
    dags = with_airflow(
        tmp_path / "birds",
        owner="ornithology",
        tags=["field"],
        pools={"cpu": "birds.cpu", "gpu": "birds.gpu", "dvc": "birds.dvc"},
        item_timeout_h=0.5,
        train_timeout_h=48,
        max_parallel_items=3,
        retries=4,
    )
    chain = dags["birds"]
    assert {dag.owner for dag in dags.values()} == {"ornithology"}
    assert {frozenset(dag.tags) for dag in dags.values()} == {
        frozenset({"audioml", "birds", "classification", "field"})
    }
    work, train = chain.get_task("featurize.work"), chain.get_task("train.run")
    assert (work.pool, train.pool, chain.get_task("train.record").pool) == ("birds.cpu", "birds.gpu", "birds.dvc")
    assert work.execution_timeout.total_seconds() == 1800
    assert train.execution_timeout.days == 2
    assert work.max_active_tis_per_dag == 3
    assert train.retries == 4


@pytest.mark.parametrize(
    ("training", "pool", "slots", "queue"),
    [
        ({"accelerator": "cpu"}, "cpu", 1, "default"),
        ({}, "gpu", 1, "default"),
        ({"accelerator": "gpu", "devices": 2}, "gpu", 2, "gpu"),
    ],
)
def test_training_takes_the_pool_of_what_it_may_use(tmp_path, training, pool, slots, queue):
    import yaml

    from audioml.orchestration.airflow import build_dags

    folder = write_workspace(tmp_path / "birds", more=yaml.safe_dump({"training": training}))
    run = build_dags(folder)["birds"].get_task("train.run")
    assert (run.pool, run.pool_slots, run.queue) == (pool, slots, queue)


@pytest.mark.parametrize("split", [{"folds": 5}, {"train_shares": [0.5]}])
def test_folds_and_shares_are_trained_in_mapped_tasks_that_take_what_training_takes(tmp_path, split):
    import yaml

    from audioml.orchestration.airflow import build_dags

    more = {"split": split, "training": {"accelerator": "gpu"}, "airflow": {"train_timeout_h": 3}}
    chain = build_dags(write_workspace(tmp_path / "birds", more=yaml.safe_dump(more)))["birds"]
    assert sorted(t.task_id.split(".")[1] for t in chain.tasks if t.task_id.startswith("train.")) == sorted(MAPPED)
    work, collect = chain.get_task("train.work"), chain.get_task("train.collect")
    assert (work.pool, work.queue, work.execution_timeout.total_seconds()) == ("gpu", "gpu", 3 * 3600)
    assert collect.pool == "cpu"


def test_a_search_is_a_dag_of_its_own_that_holds_the_workspace(tmp_path, dags):
    import yaml

    from audioml.orchestration.airflow import build_dags

    assert "birds.tune" not in dags
    space = {"training.learning_rate": {"low": 0.001, "high": 0.1, "log": True}}
    more = {"tune": {"space": space, "jobs": 3}, "training": {"accelerator": "gpu", "devices": 2}}
    dag = build_dags(write_workspace(tmp_path / "searched", more=yaml.safe_dump(more)))["birds.tune"]
    assert dag.schedule is None
    assert list(dag.params) == ["overrides"]
    upstream = {task.task_id: task.upstream_task_ids for task in dag.tasks}
    assert upstream == {
        "begin": set(),
        "plan": {"begin"},
        "work": {"plan"},
        "report": {"plan", "work"},
        "end": {"begin", "report"},
    }
    assert dag.get_task("begin").is_setup
    assert dag.get_task("begin").steps == []
    assert dag.get_task("end").is_teardown
    work = dag.get_task("work")
    assert work.is_mapped
    assert (work.pool, work.queue, work.pool_slots, work.max_active_tis_per_dag) == ("gpu", "gpu", 1, 3)
    assert dag.get_task("report").trigger_rule == "none_failed"


def test_the_dag_file_is_of_the_workspace_that_holds_its_folder(tmp_path, monkeypatch):
    from audioml.orchestration.airflow import build_dags

    a, b = (write_workspace(tmp_path / name, name) for name in "ab")
    monkeypatch.setenv("AUDIOML_WORKSPACES", f"{a}{os.pathsep}{b}")
    assert {dag_id.partition(".")[0] for dag_id in build_dags(dag_file=b / DAG_FILE_PATH)} == {"b"}


def test_bad_params_name_the_workspace_and_the_key(tmp_path):
    from audioml.orchestration.airflow import build_dags

    bad = write_workspace(tmp_path / "bad", more="sed: 1\n")
    with pytest.raises(ParamsError, match=rf"{bad}: .*unknown key 'sed'.*Did you mean 'seed'"):
        build_dags(bad)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("timezone", "Europe"),
        ("tags", ["x" * 101]),
        ("item_timeout_h", 1e12),
        ("retry_delay_s", 1e15),
        ("cron", "0 0 31 2 *"),
    ],
)
def test_values_that_airflow_would_choke_on_are_told_by_key(tmp_path, key, value):
    with pytest.raises(ParamsError, match=rf"airflow\.{key}"):
        with_airflow(tmp_path / "birds", **{key: value})
