"""docker/kubernetes: manifests against the schemas of Kubernetes, values of the chart against our settings."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kubernetes_validate
import pytest
import yaml

from audioml.orchestration import cluster_settings

KUBERNETES = Path(__file__).resolve().parents[2] / "docker" / "kubernetes"
MANIFESTS = sorted(path for path in KUBERNETES.glob("*.yaml") if path.name != "values.yaml")
VERSIONS = ("1.30", kubernetes_validate.latest_version())


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def pods(path: Path) -> list[dict[str, Any]]:
    return [d["spec"]["template"]["spec"] for d in documents(path) if d["kind"] in ("Deployment", "Job")]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_what_kubernetes_takes(path: Path, version: str) -> None:
    for document in documents(path):
        kubernetes_validate.validate(document, version, strict=True)


def test_the_schemas_would_notice() -> None:
    (deployment,) = (d for d in documents(KUBERNETES / "mlflow.yaml") if d["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["port"] = 5000
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, VERSIONS[0], strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_pods_are_not_root_and_secrets_are_references(path: Path) -> None:
    for pod in pods(path):
        assert pod["securityContext"] == {"runAsNonRoot": True, "runAsUser": 50000, "runAsGroup": 0, "fsGroup": 0}
        for container in [*pod["containers"], *pod.get("initContainers", [])]:
            for variable in container.get("env", []):
                if any(word in variable["name"] for word in ("PASSWORD", "SECRET", "FERNET", "CONN", "STORE_URI")):
                    assert "secretKeyRef" in variable["valueFrom"], variable["name"]


def test_services_reach_pods_that_are_probed() -> None:
    for name, port in (("mlflow", 5000), ("server", 8000)):
        found = {d["kind"]: d for d in documents(KUBERNETES / f"{name}.yaml")}
        template = found["Deployment"]["spec"]["template"]
        assert found["Service"]["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        (container,) = template["spec"]["containers"]
        assert container["ports"] == [{"name": "http", "containerPort": port}]
        assert "readinessProbe" in container


def test_the_chart_gets_the_settings_of_a_cluster() -> None:
    config = yaml.safe_load((KUBERNETES / "values.yaml").read_text())["config"]
    sections = {section for section, _ in cluster_settings.CLUSTER if not section.startswith("celery")}
    for section, key in cluster_settings.CLUSTER:
        if section in sections:
            assert str(config[section][key]) == str(cluster_settings.CLUSTER[section, key]), f"[{section}] {key}"


def test_the_chart_holds_no_secret() -> None:
    values = yaml.safe_load((KUBERNETES / "values.yaml").read_text())
    names = {values["data"]["metadataSecretName"], *(values[k] for k in values if k.endswith("SecretName"))}
    assert names == {"airflow"}
    assert not {"fernetKey", "apiSecretKey", "jwtSecret"} & set(values)


def policy() -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec((KUBERNETES / "airflow_local_settings.py").read_text(), namespace)
    return namespace


def test_work_without_a_gpu_stays_as_it_is() -> None:
    task = SimpleNamespace(queue="cpu", pool_slots=1, executor_config={})
    policy()["task_instance_mutation_hook"](task)
    assert task.executor_config == {}


def test_training_on_gpus_gets_as_many_as_it_has_slots() -> None:
    pytest.importorskip("kubernetes")
    from kubernetes.client import ApiClient

    task = SimpleNamespace(queue="gpu", pool_slots=2, executor_config={})
    policy()["task_instance_mutation_hook"](task)
    pod = ApiClient().sanitize_for_serialization(task.executor_config["pod_override"])
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "2"}
    kubernetes_validate.validate({"apiVersion": "v1", "kind": "Pod", **pod}, VERSIONS[0], strict=True)
