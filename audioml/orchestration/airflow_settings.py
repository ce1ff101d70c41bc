"""Settings of the embedded Airflow: SQLite, LocalExecutor, one user; secrets made once per workspace."""

from __future__ import annotations

import base64
import os
import secrets
from pathlib import Path
from typing import Any

from audioml.orchestration.services import MARK
from audioml.orchestration.workspaces import BUNDLES, VARIABLE, find_workspaces, name_workspaces
from audioml.pipeline.context import Context
from audioml.ports import LOCAL
from audioml.store.files import read_json, write_json

USERNAME = "admin"
PASSWORDS, SECRETS = "passwords.json", "secrets.json"
WEEK_S = 7 * 24 * 3600
Settings = dict[tuple[str, str], Any]
"""Values of Airflow's configuration by section and key."""
EVERYWHERE: Settings = {
    ("core", "load_examples"): False,
    ("core", "dagbag_import_error_tracebacks"): False,
    ("core", "dags_are_paused_at_creation"): False,
    ("core", "hostname_callable"): "socket.gethostname",
    ("dag_processor", "dag_bundle_config_list"): BUNDLES,
    ("logging", "colored_console_log"): False,
    # Training may take days and keep both the machine and the API server busy.
    ("execution_api", "jwt_expiration_time"): WEEK_S,
    ("workers", "execution_api_timeout"): 30.0,
    # An Airflow task that ends while the API server is away tells it some minutes later; Airflow's own 5 retries, which
    # take 10 s, would make of it a failure, and of the retry the same work once more.
    ("workers", "execution_api_retries"): 25,
    ("workers", "execution_api_retry_wait_max"): 20.0,
}
"""What audioml's Airflow tasks need of any Airflow: this embedded one, docker/compose.yaml, Kubernetes."""


def airflow_home(state: Path) -> Path:
    """Return the folder of Airflow's database, logs and secrets."""
    return state / "airflow"


def read_login(state: Path) -> dict[str, str] | None:
    """Return `username` and `password` of the workspace's Airflow, or None before its first start."""
    path = airflow_home(state) / PASSWORDS
    return {"username": USERNAME, "password": read_json(path)[USERNAME]} if path.exists() else None


def make_secrets(home: Path) -> dict[str, str]:
    """Return the keys of the embedded Airflow; makes them, and the password, the first time."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / SECRETS
    if not path.exists():
        fernet_key = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        keys = {"fernet_key": fernet_key, "jwt_secret": secrets.token_hex(32), "api_secret_key": secrets.token_hex(32)}
        _write_private(home / PASSWORDS, {USERNAME: secrets.token_urlsafe(12)})
        _write_private(path, keys)
    loaded: dict[str, str] = read_json(path)
    return loaded


def airflow_environment(ctx: Context, port: int, mlflow_url: str) -> dict[str, str]:
    """Return the environment of the Airflow processes of a workspace, and so of the steps they run."""
    home = airflow_home(ctx.state)
    keys = make_secrets(home)
    url = f"http://{LOCAL}:{port}"
    cores = os.cpu_count() or 1
    settings: Settings = {
        **EVERYWHERE,
        ("core", "executor"): "LocalExecutor",
        ("core", "dags_folder"): ctx.path("dags"),
        # A worker stays with an Airflow task that has succeeded until its next heartbeat is due, so that there
        # are more workers than tasks may run at once.
        ("core", "parallelism"): 2 * cores + 2,
        ("core", "max_active_tasks_per_dag"): max(2, cores),
        ("core", "fernet_key"): keys["fernet_key"],
        ("core", "execution_api_server_url"): f"{url}/execution/",
        ("core", "auth_manager"): "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        ("core", "simple_auth_manager_users"): f"{USERNAME}:admin",
        ("core", "simple_auth_manager_all_admins"): False,
        ("core", "simple_auth_manager_passwords_file"): home / PASSWORDS,
        # Writers of the one SQLite file wait for each other up to 60 s instead of failing.
        ("database", "sql_alchemy_conn"): f"sqlite:///{home / 'airflow.db'}?timeout=60",
        ("logging", "base_log_folder"): home / "logs",
        ("api", "host"): LOCAL,
        ("api", "port"): port,
        ("api", "base_url"): url,
        ("api", "workers"): 1,
        ("api", "secret_key"): keys["api_secret_key"],
        ("api", "instance_name"): f"audioml: {ctx.params.name}",
        ("api_auth", "jwt_secret"): keys["jwt_secret"],
        # Minutes without an answer from the API server, because it is killed or the machine is busy.
        ("workers", "max_failed_heartbeats"): 300,
        # Also the longest time that Airflow takes to see that a skipped or failed Airflow task has ended.
        ("workers", "min_heartbeat_interval"): 1,
        ("scheduler", "task_instance_heartbeat_timeout"): 900,
        ("scheduler", "scheduler_idle_sleep_time"): 0.5,
        ("scheduler", "orphaned_tasks_check_interval"): 15.0,
        ("dag_processor", "dag_bundle_storage_path"): home / "bundles",
        ("dag_processor", "refresh_interval"): 10,
        ("dag_processor", "min_file_process_interval"): 15,
        ("dag_processor", "parsing_processes"): 1,
        ("dag_processor", "print_stats_interval"): 600,
    }
    # `_AIRFLOW__AS_LIBRARY` and the like are meant for one process, not for what it starts.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("_AIRFLOW__")}
    return {
        **inherited,
        **as_environment(settings),
        "AIRFLOW_HOME": str(home),
        VARIABLE: name_workspaces([ctx.workspace, *_others()]),
        "MLFLOW_TRACKING_URI": os.environ.get("MLFLOW_TRACKING_URI") or mlflow_url,
        **dict.fromkeys(("NO_PROXY", "no_proxy"), ",".join(filter(None, [_no_proxy(), LOCAL]))),
        MARK: str(ctx.state),
        "SPT_NOENV": "1",  # setproctitle would overwrite the environment, and the mark with it.
        **dict.fromkeys(("MLFLOW_DISABLE_TELEMETRY", "DVC_NO_ANALYTICS", "DO_NOT_TRACK"), "true"),
        "GX_ANALYTICS_ENABLED": "false",
    }


def as_environment(settings: Settings) -> dict[str, str]:
    """Return the environment variables that set these values."""
    return {f"AIRFLOW__{section}__{key}".upper(): str(value) for (section, key), value in settings.items()}


def _others() -> list[Path]:
    """Return the workspaces that the user's environment names."""
    return find_workspaces() if os.environ.get(VARIABLE, "").strip() else []


def _no_proxy() -> str | None:
    return os.environ.get("no_proxy") or os.environ.get("NO_PROXY")


def _write_private(path: Path, value: dict[str, str]) -> None:
    write_json(path, value)
    path.chmod(0o600)
