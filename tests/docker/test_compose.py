"""docker/compose.yaml, docker/make-env and docker/Dockerfile, as far as they can be judged without a Docker engine."""

import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from audioml.orchestration import cluster_settings

DOCKER = Path(__file__).resolve().parents[2] / "docker"
COMPOSE = DOCKER / "compose.yaml"
ONE_SHOT = {"airflow-init", "devices"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


def make_env(path: Path) -> dict[str, str]:
    subprocess.run([DOCKER / "make-env", path, path.parent], check=True, capture_output=True)
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_every_service_is_health_checked_or_ends(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert name in ONE_SHOT or "test" in service["healthcheck"], name
        assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped"), name


def test_nothing_of_ours_runs_as_root(services: dict[str, Any]) -> None:
    ours = {name for name, service in services.items() if service["image"].startswith("audioml-")}
    assert set(services) - ours == {"postgres", "redis"}
    assert {services[name]["user"] for name in ours - {"devices"}} == {"${AUDIOML_UID}:0"}
    opener = services["devices"]
    assert (opener["cap_drop"], opener["cap_add"], opener["network_mode"]) == (["ALL"], ["FOWNER"], "none")
    stages = re.findall(r"^FROM \S+ AS (airflow|worker|server)\n(.*?)(?=^FROM |\Z)", _dockerfile(), re.M | re.S)
    assert [name for name, _ in stages] == ["airflow", "worker", "server"]
    for _, commands in stages:
        assert re.findall(r"^USER (.*)", commands, re.M) == ["50000:0"]
        assert "HEALTHCHECK" in commands


def test_parts_wait_for_what_they_need(services: dict[str, Any]) -> None:
    ready = dict.fromkeys(ONE_SHOT, "service_completed_successfully")
    for service in services.values():
        for name, wait in service.get("depends_on", {}).items():
            assert wait["condition"] == ready.get(name, "service_healthy")
    assert set(services["worker"]["depends_on"]) == {"airflow-init", "airflow-api-server", "mlflow"}
    assert set(services["worker-gpu"]["depends_on"]) == {*services["worker"]["depends_on"], "devices"}


def test_queues(services: dict[str, Any]) -> None:
    def queues(name: str) -> str:
        command = services[name]["command"]
        return str(command[command.index("--queues") + 1])

    assert queues("worker") == cluster_settings.CLUSTER["operators", "default_queue"] == "cpu"
    assert queues("worker-gpu") == "gpu"
    assert services["worker-gpu"]["profiles"] == ["gpu"]


def test_made_secrets_are_random_private_and_stay(tmp_path: Path) -> None:
    first, second = make_env(tmp_path / "first"), make_env(tmp_path / "second")
    secret = {name for name in first if re.search("PASSWORD|SECRET|KEY", name)}
    assert len(secret) == 8
    for name in secret:
        assert len(first[name]) >= 24
        assert first[name] != second[name]
    assert stat.S_IMODE((tmp_path / "first").stat().st_mode) == 0o600
    assert make_env(tmp_path / "first") == first
    assert first["WORKSPACES_DIR"] == str(tmp_path / "workspaces")
    assert (tmp_path / "workspaces").stat().st_uid == int(first["AUDIOML_UID"])


def test_compose_names_every_secret_and_holds_none(tmp_path: Path) -> None:
    made = make_env(tmp_path / "env")
    text = COMPOSE.read_text()
    used = set(re.findall(r"(?<!\$)\$\{(\w+)\}", text))
    assert used <= set(made)
    assert set(made) - used == {"COMPOSE_PROJECT_NAME"}
    for name, value in _settings(yaml.safe_load(text)):
        if re.search(r"PASSWORD|SECRET|_KEY|CONN|BROKER|BACKEND(?!_STORE)", name):
            assert "${" in value or not value, name
    assert not (DOCKER / ".env").exists() or _is_ignored(DOCKER / ".env")
    assert _is_ignored(DOCKER / ".env")


def test_airflow_env_is_as_rendered() -> None:
    command = "python -m audioml.orchestration.cluster_settings > docker/airflow.env"
    assert (DOCKER / "airflow.env").read_text() == cluster_settings.render(), f"run: {command}"


def test_a_task_is_never_handed_out_twice_and_a_dead_worker_is_noticed() -> None:
    settings = cluster_settings.CLUSTER
    longest_s = 168 * 3600
    assert settings["celery_broker_transport_options", "visibility_timeout"] > longest_s
    assert settings["execution_api", "jwt_expiration_time"] >= longest_s
    patience_s = settings["workers", "min_heartbeat_interval"] * settings["workers", "max_failed_heartbeats"]
    assert patience_s >= settings["scheduler", "task_instance_heartbeat_timeout"]


def test_no_index_or_registry_stands_in_the_files() -> None:
    for path in (DOCKER / "Dockerfile", DOCKER / "airflow.txt", DOCKER / "server.txt", COMPOSE):
        assert not re.search(r"index-url +https?:|https?://(?!127\.0\.0\.1|localhost|mlflow|airflow)", path.read_text())


@pytest.mark.parametrize("name", ["airflow.txt", "server.txt"])
def test_what_an_image_installs_is_locked(name: str) -> None:
    lines = (DOCKER / name).read_text().splitlines()
    packages = [line for line in lines if line and not line.startswith("#")]
    constraints = (DOCKER.parent / "constraints.txt").read_text()
    assert len(packages) == len(set(packages)) > 10
    for package in packages:
        assert re.search(rf"^{package}==", constraints, re.M), package
    assert not {"torch", "librosa", "dvc", "great-expectations", "pytorch-lightning"} & set(packages)


def _dockerfile() -> str:
    return (DOCKER / "Dockerfile").read_text()


def _settings(compose: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, str(value))
        for service in compose["services"].values()
        for name, value in service.get("environment", {}).items()
    ]


def _is_ignored(path: Path) -> bool:
    return subprocess.run(["git", "check-ignore", "--quiet", path], cwd=DOCKER).returncode == 0
