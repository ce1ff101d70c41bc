"""When ingest runs, and for which partition."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from audioml.errors import ParamsError
from audioml.params import parse_params


@pytest.fixture
def make(minimal_params):
    """A function from keys of `airflow`, and the pattern of partitions, to params."""

    def make_params(partition="%Y-%m-%d", **airflow):
        data = {**minimal_params["data"], "partition": partition}
        return parse_params({**minimal_params, "data": data, "airflow": airflow})

    return make_params


def restore(schedule):
    """What the scheduler makes of a schedule, which it knows in writing only."""
    from airflow.sdk import DAG
    from airflow.serialization.serialized_objects import DagSerialization

    dag = DAG("birds.ingest", schedule=schedule, catchup=False)
    return DagSerialization.from_dict(DagSerialization.to_dict(dag))


def context(run_type="scheduled", start=None, end=None, **params):
    run = SimpleNamespace(run_type=run_type, data_interval_start=start, data_interval_end=end)
    return {"dag_run": run, "params": params}


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


def test_what_is_not_asked_for_is_not_scheduled(make, tmp_path):
    from audioml.orchestration.airflow.schedules import ingest_schedule

    assert ingest_schedule(tmp_path, make()) is None
    assert restore(ingest_schedule(tmp_path, make())).timetable.can_be_scheduled is False


def test_a_backfill_over_three_days_takes_the_three_folders(make, tmp_path):
    """As `airflow backfill create --from-date 2026-01-01 --to-date 2026-01-03T23:59` does."""
    from airflow.models.backfill import _get_info_list

    from audioml.orchestration.airflow.schedules import ingest_schedule, run_partition

    for cron, zone in (("0 2 * * *", "UTC"), ("@daily", "UTC"), ("30 23 * * *", "UTC"), ("0 2 * * *", "America/Lima")):
        params = make(cron=cron, timezone=zone)
        dag = restore(ingest_schedule(tmp_path, params))
        assert dag.timetable.periodic
        infos = _get_info_list(dag=dag, from_date=utc(2026, 1, 1), to_date=utc(2026, 1, 3, 23, 59), reverse=False)
        runs = [context("backfill", i.data_interval.start, i.data_interval.end) for i in infos]
        assert [run_partition(params, run) for run in runs] == ["2026-01-01", "2026-01-02", "2026-01-03"]


@pytest.mark.parametrize(
    ("pattern", "zone", "start", "end", "key"),
    [
        ("%Y-%m-%d", "UTC", utc(2026, 1, 1, 2), utc(2026, 1, 2, 2), "2026-01-01"),
        ("%Y/%m/%d", "UTC", utc(2026, 1, 1, 23), utc(2026, 1, 2, 0), "2026/01/01"),
        ("%Y-%m-%d", "Europe/Berlin", utc(2025, 12, 31, 23), utc(2026, 1, 1, 23), "2026-01-01"),
        # A day of 25 hours.
        ("%Y-%m-%d", "Europe/Berlin", utc(2026, 10, 24, 22), utc(2026, 10, 25, 23), "2026-10-25"),
        ("%Y-%m-%d", "UTC", utc(2026, 1, 1, 2), utc(2026, 1, 8, 2), None),
        ("%Y-%m", "UTC", utc(2026, 1, 1, 2), utc(2026, 1, 8, 2), "2026-01"),
        ("*", "UTC", utc(2026, 1, 1, 2), utc(2026, 1, 2, 2), None),
        (None, "UTC", utc(2026, 1, 1, 2), utc(2026, 1, 2, 2), None),
    ],
)
def test_the_partition_of_a_run_by_the_clock(make, pattern, zone, start, end, key):
    from audioml.orchestration.airflow.schedules import run_partition

    params = make(pattern, timezone=zone)
    for run_type in ("scheduled", "backfill"):
        assert run_partition(params, context(run_type, start, end)) == key
    for run_type in ("manual", "asset_triggered"):
        assert run_partition(params, context(run_type, start, end)) is None


def test_a_person_may_name_the_partition(make):
    from audioml.orchestration.airflow.schedules import partition_form, run_partition

    assert run_partition(make(), context("manual", partition=" 2026-01-05 ")) == "2026-01-05"
    assert run_partition(make(), context("manual", partition=None)) is None
    assert run_partition(make(), context("manual", partition="")) is None
    assert list(partition_form(make())) == ["partition"]
    assert partition_form(make(None)) == {}


def test_without_dates_the_clock_only_says_when(make, tmp_path):
    from audioml.orchestration.airflow.schedules import ingest_schedule

    timetable = restore(ingest_schedule(tmp_path, make("*", cron="0 2 * * *", timezone="Europe/Berlin"))).timetable
    assert (type(timetable).__name__, timetable.summary) == ("CronTriggerTimetable", "0 2 * * *")
    assert str(timetable._timezone.name) == "Europe/Berlin"


def test_a_watched_source_may_have_a_clock_too(make, tmp_path):
    from audioml.orchestration.airflow.schedules import ingest_schedule

    (asset,) = ingest_schedule(tmp_path, make(watch_s=30))
    assert asset.uri == "audioml://digits/landing"
    both = restore(ingest_schedule(tmp_path, make(cron="0 2 * * *", watch_s=30))).timetable
    assert type(both).__name__ == "AssetOrTimeSchedule"
    assert both.periodic
    assert both.summary == "Asset or 0 2 * * *"


def test_what_is_wrong_names_its_key(make, tmp_path, minimal_params):
    from audioml.orchestration.airflow.schedules import ingest_schedule

    with pytest.raises(ParamsError, match=r"'airflow.cron' is 'daily at 2', but"):
        ingest_schedule(tmp_path, make(cron="daily at 2"))
    with pytest.raises(ParamsError, match=r"'airflow.timezone' is 'Mars', but"):
        ingest_schedule(tmp_path, make(timezone="Mars"))
    spoken = parse_params({**minimal_params, "data": {"layout": "spoken_commands"}, "airflow": {"watch_s": 5}})
    with pytest.raises(ParamsError, match=r"'airflow.watch_s' .*no data.source"):
        ingest_schedule(tmp_path, spoken)


@pytest.fixture
def partitioned(workspace):
    """The DAGs of a workspace that is partitioned by date, and scheduled."""
    from audioml.orchestration.airflow import build_dags

    text = (workspace / "params.yaml").read_text()
    text = text.replace("  source: recordings\n", "  source: recordings\n  partition: '%Y-%m-%d'\n")
    (workspace / "params.yaml").write_text(f"{text}airflow:\n  cron: '@daily'\n")
    return build_dags(workspace)


class TaskInstance:
    """What the Airflow tasks of ingest use of Airflow's task instance."""

    dag_id = "birds.ingest"

    def __init__(self):
        self.pushed = {}

    def xcom_push(self, key, value):
        self.pushed[key] = value

    def xcom_pull(self, task_ids, key="return_value"):
        return []


def run_of(dag):
    run = context("backfill", utc(2026, 1, 1), utc(2026, 1, 2))
    return {**run, "ti": TaskInstance(), "dag": dag, "run_id": "backfill"}


def test_the_airflow_tasks_of_ingest_name_the_partition(partitioned, fake):
    answer, calls = fake
    answer(plan={"ingest": {"run": True, "reasons": ["listed"]}}, run=[])
    dag = partitioned["birds.ingest"]
    run = run_of(dag)
    assert dag.get_task("begin").poke(run)
    dag.get_task("ingest.plan").execute(run)
    dag.get_task("ingest.collect").execute(run)
    asked = [call for call in calls() if not call.startswith("plan ingest")]
    assert asked == [
        "plan --json --partition 2026-01-01",
        "run ingest --plan --json --partition 2026-01-01",
        "run ingest --collect --partition 2026-01-01",
    ]
    assert "partition" in partitioned["birds"].params
    assert "partition" not in partitioned["birds.features"].params


def test_a_day_without_a_folder_ends_as_skipped(partitioned, fake):
    from airflow.sdk.exceptions import AirflowSkipException

    answer, _ = fake
    empty = {"run": False, "reasons": ["the partition 2026-01-01 has no folder yet"]}
    answer(plan={"ingest": empty, "validate": empty})
    run = run_of(partitioned["birds.ingest"])
    with pytest.raises(AirflowSkipException, match="has no folder yet"):
        run["dag"].get_task("begin").poke(run)
