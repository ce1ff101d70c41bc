"""The first and the last Airflow task of a run, with a script in the place of audioml's command line."""

from types import SimpleNamespace

import pytest

from audioml.orchestration.lease import Holder, read_holder, take


@pytest.fixture
def dag(workspace):
    from audioml.orchestration.airflow import build_dags

    return build_dags(workspace)["birds.features"]


class TaskInstance:
    """Knows the other runs of this Airflow."""

    def __init__(self, unfinished=()):
        self.unfinished = unfinished
        self.pushed = {}

    def get_dr_count(self, dag_id, run_ids, states):
        return sum((dag_id, run_id) in self.unfinished for run_id in run_ids)

    def xcom_push(self, key, value):
        self.pushed[key] = value

    def xcom_pull(self, task_ids):
        return {"hashes": {"features": "abc"}} if task_ids == "publish" else None


def context(ti, run_id="ann", **params):
    return {"ti": ti, "dag": SimpleNamespace(dag_id="birds.features"), "run_id": run_id, "params": params}


ANN = Holder("birds.features", "ann")
BEN = Holder("birds", "ben")
RUN, KEEP = {"run": True, "reasons": ["param seed"]}, {"run": False, "reasons": ["up to date"]}


def test_it_waits_for_a_run_that_goes_on_and_takes_over_from_one_that_ended(dag, fake, workspace):
    answer, calls = fake
    answer(plan={"split": RUN, "featurize": KEEP})
    take(workspace, BEN, lambda _: False)
    begin = dag.get_task("begin")
    assert begin.poke(context(TaskInstance(unfinished=[("birds", "ben")]))) is False
    assert read_holder(workspace) == BEN
    assert calls() == []
    assert begin.poke(context(TaskInstance())) is True
    assert read_holder(workspace) == ANN
    assert begin.mode == "reschedule"


def test_nothing_to_do_skips_the_run_and_gives_the_workspace_back(dag, fake, workspace):
    from airflow.sdk.exceptions import AirflowSkipException

    answer, _ = fake
    # What other DAGs would have to do is no matter of this one.
    answer(plan={"ingest": RUN, "split": KEEP, "featurize": KEEP})
    ti = TaskInstance()
    with pytest.raises(AirflowSkipException, match="split, featurize: up to date"):
        dag.get_task("begin").poke(context(ti))
    assert ti.pushed == {"reason": "split, featurize: up to date"}
    assert read_holder(workspace) is None


def test_an_error_gives_the_workspace_back(dag, fake, workspace):
    from audioml.orchestration.airflow.retries import BadInput

    answer, _ = fake
    answer(plan={"error": "no such key"})
    with pytest.raises(BadInput, match="no such key"):
        dag.get_task("begin").poke(context(TaskInstance()))
    assert read_holder(workspace) is None


def test_the_end_gives_the_workspace_back(dag, fake, workspace):
    answer, _ = fake
    answer()
    take(workspace, ANN, lambda _: False)
    dag.get_task("end").execute(context(TaskInstance()))
    assert read_holder(workspace) is None


def test_a_run_goes_on_when_no_event_has_told_of_what_there_is(dag, fake, workspace):
    from airflow.sdk.exceptions import AirflowSkipException

    answer, _ = fake
    answer(plan={"split": KEEP, "featurize": KEEP})
    (workspace / "dvc.lock").write_text("stages: {featurize: {outs: [{path: features, md5: abc}]}}")
    assert dag.get_task("begin").poke(context(TaskInstance())) is True
    dag.get_task("end").execute(context(TaskInstance()))
    with pytest.raises(AirflowSkipException):
        dag.get_task("begin").poke(context(TaskInstance()))


def test_a_run_of_another_airflow_is_waited_for(dag, fake, workspace):
    answer, _ = fake
    answer(plan={"split": RUN, "featurize": KEEP})
    take(workspace, Holder("birds", "ben", "/elsewhere/.audioml"), lambda _: False)
    assert dag.get_task("begin").poke(context(TaskInstance())) is False
