"""Settings of Airflow on a cluster: what docker/airflow.env and the Helm values in docker/kubernetes hold.

`python -m audioml.orchestration.cluster_settings > docker/airflow.env` writes the file; a test compares both.
"""

from __future__ import annotations

import sys

from audioml.orchestration.airflow_settings import EVERYWHERE, WEEK_S, Settings, as_environment

HEARTBEAT_INTERVAL_S = 5
LOST_WORKER_S = 120
"""A worker that has not been heard of for so long is taken for dead, and its Airflow task is tried again. A false alarm
costs what the try had not yet written: items are done again, training goes on from its checkpoint."""
CLUSTER: Settings = {
    **EVERYWHERE,
    ("core", "auth_manager"): "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
    ("core", "parallelism"): 512,
    ("core", "max_active_tasks_per_dag"): 256,
    ("logging", "base_log_folder"): "/opt/airflow/logs",
    ("workers", "min_heartbeat_interval"): HEARTBEAT_INTERVAL_S,
    # Work goes on while the API server is restarted: only the scheduler declares an Airflow task dead.
    ("workers", "max_failed_heartbeats"): LOST_WORKER_S // HEARTBEAT_INTERVAL_S,
    ("scheduler", "task_instance_heartbeat_timeout"): LOST_WORKER_S,
    ("scheduler", "orphaned_tasks_check_interval"): 60.0,
    ("dag_processor", "refresh_interval"): 60,
    ("operators", "default_queue"): "cpu",
    # A worker takes as many Airflow tasks as it has room for, and hoards none behind a training that takes days.
    ("celery", "worker_prefetch_multiplier"): 1,
    ("celery", "task_acks_late"): True,
    # After this time Redis hands a message that nobody has confirmed to another worker, even while one is at it: longer
    # than the longest Airflow task (airflow.train_timeout_h). A dead worker is noticed by its heartbeat, long before.
    ("celery_broker_transport_options", "visibility_timeout"): WEEK_S + 24 * 3600,
}
"""Pools bound what runs at once, not `parallelism`."""
HEADER = """\
# Airflow's settings on a cluster, made by: python -m audioml.orchestration.cluster_settings > docker/airflow.env
"""


def render() -> str:
    """Return the text of docker/airflow.env."""
    return HEADER + "".join(f"{name}={value}\n" for name, value in as_environment(CLUSTER).items())


if __name__ == "__main__":
    sys.stdout.write(render())
