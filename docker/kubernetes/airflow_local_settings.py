"""Airflow's cluster policy on Kubernetes: an Airflow task of the queue `gpu` gets a pod with GPUs.

The chart puts it into every pod: --set-file airflowLocalSettings=docker/kubernetes/airflow_local_settings.py
"""

from typing import Any

GPU_QUEUE = "gpu"
GPU_RESOURCE = "nvidia.com/gpu"


def task_instance_mutation_hook(task_instance: Any, dag_run: Any = None) -> None:
    """Ask for as many GPUs as the Airflow task has slots in its pool, which counts GPUs."""
    if task_instance.queue != GPU_QUEUE:
        return
    from kubernetes.client import models as k8s

    gpus = {GPU_RESOURCE: str(task_instance.pool_slots)}
    container = k8s.V1Container(
        name="base",
        resources=k8s.V1ResourceRequirements(limits=gpus),
        # Batches pass between processes by shared memory, of which a pod has 64 MB.
        volume_mounts=[k8s.V1VolumeMount(name="shared-memory", mount_path="/dev/shm")],
    )
    shared_memory = k8s.V1Volume(name="shared-memory", empty_dir=k8s.V1EmptyDirVolumeSource(medium="Memory"))
    toleration = k8s.V1Toleration(key=GPU_RESOURCE, operator="Exists", effect="NoSchedule")
    spec = k8s.V1PodSpec(containers=[container], tolerations=[toleration], volumes=[shared_memory])
    task_instance.executor_config = {**(task_instance.executor_config or {}), "pod_override": k8s.V1Pod(spec=spec)}
