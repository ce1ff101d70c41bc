"""The Airflow tasks of a search, with a script in the place of audioml's command line."""

import pytest

from audioml.orchestration.lease import Holder, read_holder

from ..conftest import write_workspace
from .test_lease import TaskInstance, context

TUNE = "tune: {space: {training.learning_rate: {low: 0.001, high: 0.1}}}\n"


@pytest.fixture
def workspace(tmp_path):
    return write_workspace(tmp_path / "birds", more=TUNE)


@pytest.fixture
def dag(workspace):
    from audioml.orchestration.airflow import build_dags

    return build_dags(workspace)["birds.tune"]


def test_a_search_begins_without_asking_what_steps_would_run(dag, fake, workspace):
    answer, calls = fake
    answer()
    assert dag.get_task("begin").poke(context(TaskInstance())) is True
    assert read_holder(workspace) == Holder("birds.features", "ann")
    assert calls() == []
    assert dag.get_task("begin").poke(context(TaskInstance(), overrides=["tune.trials=5"])) is True
    assert calls() == ["runs begin birds.features/ann --set tune.trials=5"]


def test_each_task_is_one_part_of_the_command(dag, fake):
    from audioml.orchestration.airflow.tuning import TrialOperator

    answer, calls = fake
    answer(tune=[{"id": "1 of 2"}, {"id": "2 of 2"}])
    assert dag.get_task("plan").execute({}) == ["1 of 2", "2 of 2"]
    folder = dag.get_task("plan").workspace
    TrialOperator(task_id="trial", trial="1 of 2", workspace=folder).execute({})
    best = {"value": 0.9}
    answer(tune={"settings": ["training.learning_rate=0.01"], "metric": "val_accuracy", "best": best})
    assert dag.get_task("report").execute({}) == ["training.learning_rate=0.01"]
    assert calls() == ["tune --plan --json", "tune --next", "tune --report --json"]
