import pytest

from audioml.orchestration.airflow_client import AirflowTask
from audioml.orchestration.progress import summarize
from audioml.pipeline.graph import STEPS

NOW_S = 100.0


def task(task_id, state, map_index=-1, start_s=None, end_s=None):
    return AirflowTask(task_id, map_index, task_id, state, 1, start_s, end_s)


def step(tasks, name):
    return next(s for s in summarize(tasks, NOW_S) if s.name == name)


def test_every_step_is_there_in_order():
    assert [s.name for s in summarize([], NOW_S)] == [s.name for s in STEPS]
    assert {s.state for s in summarize([], NOW_S)} == {"waiting"}


@pytest.mark.parametrize(
    ("run", "record", "state"),
    [
        (None, None, "waiting"),
        ("queued", None, "queued"),
        ("running", None, "running"),
        ("success", "queued", "running"),
        ("success", "success", "success"),
        ("skipped", "skipped", "skipped"),
        ("failed", "upstream_failed", "failed"),
        ("upstream_failed", "upstream_failed", "not run"),
        ("up_for_retry", None, "queued"),
    ],
)
def test_state_of_a_step(run, record, state):
    assert step([task("train.run", run), task("train.record", record)], "train").state == state


def test_items_and_seconds_of_a_mapped_step():
    tasks = [
        task("ingest.plan", "success", start_s=10, end_s=12),
        task("ingest.work", "success", 0, start_s=13, end_s=20),
        task("ingest.work", "running", 1, start_s=13),
        task("ingest.collect", None),
        task("ingest.record", None),
    ]
    found = step(tasks, "ingest")
    assert (found.state, found.n_done, found.n_items, found.seconds) == ("running", 1, 2, 90.0)


def test_seconds_end_with_the_last_airflow_task():
    tasks = [task("split.run", "success", start_s=10, end_s=12), task("split.record", "success", start_s=15, end_s=16)]
    assert step(tasks, "split").seconds == 6.0
