"""The Airflow processes of a workspace: `python -m audioml.orchestration.airflow.processes VERSION_FILE NAME...`.

Does what `airflow db migrate`, `airflow pools set` and one `airflow NAME` each do, but imports Airflow once and
forks: 6 s from nothing to a healthy scheduler on two cores instead of 20. Each component gets a session and a
log of its own. The first line on standard output is a JSON object of pids by name; this process then stays to
reap them, and ends when the last one has.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path

from audioml.orchestration.airflow.pools import make_pools

ARGUMENTS = {
    # Task logs are read from the disk they share with the API server.
    "airflow-scheduler": ["scheduler", "--skip-serve-logs"],
    "airflow-dag-processor": ["dag-processor"],
    "airflow-api-server": ["api-server"],
    "airflow-triggerer": ["triggerer", "--skip-serve-logs"],
}
"""Command line by component, in the order of starting."""
PRELOADED = (
    "airflow.cli.cli_parser",
    "airflow.jobs.scheduler_job_runner",
    "airflow.jobs.dag_processor_job_runner",
    "airflow.sdk.execution_time.task_runner",
)
"""What at least two components import, or every Airflow task; modules that open no connection and no thread."""


def main(version_file: Path, logs: Path, names: list[str]) -> None:
    """Prepare the database, fork the components, print their pids, and reap them."""
    from airflow import settings

    for module in PRELOADED:
        import_module(module)
    _prepare_database(version_file)
    if "airflow-scheduler" in names:
        _give_up_dead_schedulers()
    settings.dispose_orm()
    gc.collect()
    gc.freeze()
    pids = {name: _fork(ARGUMENTS[name], log_path(logs, name)) for name in ARGUMENTS if name in names}
    sys.stdout.write(json.dumps(pids) + "\n")
    sys.stdout.flush()
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())
    for _ in pids:
        os.wait()


def log_path(logs: Path, name: str) -> Path:
    """Return the log of a component."""
    return logs / f"{name}.log"


def _prepare_database(version_file: Path) -> None:
    """Create or migrate the database, unless this version of Airflow already did; make the pools."""
    from airflow.utils import db
    from airflow.version import version

    if not version_file.exists() or version_file.read_text(encoding="utf-8") != version:
        db.initdb()
        version_file.write_text(version, encoding="utf-8")
    make_pools()


def _give_up_dead_schedulers() -> None:
    """Mark what the database knows of earlier schedulers as failed, so that their Airflow tasks start again at once.

    Airflow would wait for half a minute without a heartbeat; here one is started only when none runs.
    """
    from airflow.jobs.job import Job, JobState
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        dead = (Job.job_type == "SchedulerJob", Job.state == JobState.RUNNING)
        session.execute(update(Job).where(*dead).values(state=JobState.FAILED))


def _fork(arguments: list[str], log: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setsid()
        with log.open("ab", buffering=0) as output:
            os.dup2(output.fileno(), sys.stdout.fileno())
            os.dup2(output.fileno(), sys.stderr.fileno())
        from airflow import settings
        from airflow.__main__ import main as airflow_main

        settings.configure_orm()
        sys.argv = ["airflow", *arguments]
        airflow_main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    finally:
        if error := sys.exception():
            traceback.print_exception(error)
        sys.stdout.flush()
        sys.stderr.flush()
        # A forked child must never return into its parent's code.
        os._exit(status)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
