"""When recordings are ingested, and which partition a DAG run stands for.

A run by the clock of a workspace that is partitioned by date ingests the folder of the day in which its data interval
starts, in `airflow.timezone`: a daily run at 02:00 takes the folder of the day before, which is complete by then; runs
each hour take today's folder as it grows, and the one at midnight completes yesterday's. `airflow backfill` goes over
the same intervals. Where an interval is longer than a folder's time (a weekly run, folders of days) the run looks at
the whole source, which costs a listing of it. So do runs by hand that name no partition, and those of a watcher.

Airflow's own partitions (`CronPartitionTimetable`) are not used: the asset events of such a run carry its partition
key, and Airflow 3.3 starts no unpartitioned DAG by an event with a key and no partitioned one by an event without
(`AssetManager._queue_dagruns`), so that `NAME.features` could follow the clock, or people and watchers, but not both.
The manifest is one table, whatever partition is ingested; nothing after ingest is partitioned.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from airflow.sdk import AssetOrTimeSchedule, Context, CronDataIntervalTimetable, CronTriggerTimetable, Param
from airflow.sdk.exceptions import AirflowTimetableInvalid
from croniter import CroniterBadDateError, croniter

from audioml.errors import ParamsError
from audioml.orchestration.airflow.landing import landing_asset
from audioml.params import FILE_NAME, Params
from audioml.partitions import is_dated, partition_of, period_of

PARTITION = "partition"
"""The param of a DAG run that names its partition."""
T = TypeVar("T", bound="CronDataIntervalTimetable | CronTriggerTimetable")
BY_CLOCK = frozenset({"scheduled", "backfill"})
"""Types of DAG runs that stand for their data interval."""


def ingest_schedule(folder: Path, params: Params) -> Any:
    """Return the schedule of the ingest DAG: a timetable, an asset with a watcher, both, or None.

    Raises
    ------
    ParamsError
        When `airflow.cron` or `airflow.timezone` is not valid, or there is no source to watch.
    """
    timetable = _timetable(params)
    if params.airflow.watch_s is None:
        return timetable
    landing = landing_asset(folder, params)
    return [landing] if timetable is None else AssetOrTimeSchedule(timetable=timetable, assets=[landing])


def partition_form(params: Params) -> dict[str, Param]:
    """Return the field of the trigger form that names a partition, for a workspace that has any."""
    pattern = params.data.partition
    if pattern is None:
        return {}
    description = f"Ingest only this folder of the source, one like {pattern}. Empty: by date, or the whole source."
    return {PARTITION: Param(None, type=["null", "string"], title="Partition", description=description)}


def run_partition(params: Params, context: Context) -> str | None:
    """Return the key of the partition that a DAG run ingests; None for the whole source.

    It is what the run's param `partition` says, or the folder of the date for which the clock or a backfill started
    the run. The key is not checked here: `audioml run ingest --partition` does that.
    """
    pattern = params.data.partition
    if pattern is None:
        return None
    if chosen := str(context["params"].get(PARTITION) or "").strip():
        return chosen
    run = context["dag_run"]
    start, end = run.data_interval_start, run.data_interval_end
    by_clock = str(getattr(run.run_type, "value", run.run_type)) in BY_CLOCK
    if not (is_dated(pattern) and by_clock and start and end) or end - start > period_of(pattern):
        return None
    return partition_of(pattern, start.astimezone(ZoneInfo(params.airflow.timezone)))


def partition_options(params: Params, context: Context) -> list[str]:
    """Return the options of `audioml run ingest` and `audioml plan` that name a DAG run's partition."""
    partition = run_partition(params, context)
    return ["--partition", partition] if partition else []


def monitor_schedule(params: Params) -> CronTriggerTimetable | None:
    """Return the schedule of the monitoring DAG; None without `monitor.cron`.

    Raises
    ------
    ParamsError
        When `monitor.cron` or `airflow.timezone` is not valid.
    """
    _check_timezone(params)
    cron = params.monitor.cron
    return (
        None if cron is None else _check_cron(CronTriggerTimetable(cron, params.airflow.timezone), "monitor.cron", cron)
    )


def _timetable(params: Params) -> CronDataIntervalTimetable | CronTriggerTimetable | None:
    """Return when the clock starts a run; one with data intervals where they name partitions."""
    _check_timezone(params)
    cron, timezone = params.airflow.cron, params.airflow.timezone
    if cron is None:
        return None
    kind = CronDataIntervalTimetable if is_dated(params.data.partition) else CronTriggerTimetable
    return _check_cron(kind(cron, timezone), "airflow.cron", cron)


def _check_timezone(params: Params) -> None:
    timezone = params.airflow.timezone
    try:
        ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ParamsError(
            f"{FILE_NAME}: 'airflow.timezone' is {timezone!r}, but there is no such time zone; write one such as "
            "Europe/Berlin or UTC."
        ) from None


def _check_cron(made: T, key: str, cron: str) -> T:
    try:
        made.validate()
        croniter(made.expression).get_next()
    except (AirflowTimetableInvalid, CroniterBadDateError) as error:
        raise ParamsError(
            f"{FILE_NAME}: {key!r} is {cron!r}, but it is no cron expression: {error}. Write one such as "
            "'0 2 * * *', or @daily."
        ) from None
    return made
