"""Airflow's pools: how much of the machine, or of the fleet, runs at once."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from audioml.errors import ParamsError
from audioml.orchestration.workspaces import find_workspaces
from audioml.params import PoolParams, load_params

DESCRIPTIONS = {
    "cpu": "Airflow tasks that compute: one for each core",
    "gpu": "Trainings that may take a GPU: one for each GPU",
    "dvc": "Airflow tasks that use DVC and little else: one at a time",
}
SLOTS_VARIABLE = "AUDIOML_POOL_{}"
"""Environment variable with the slots of a pool, such as AUDIOML_POOL_CPU."""

GPU_FILES = Path("/dev")
"""Where each NVIDIA GPU has a file."""


def pool_slots(kind: str) -> int:
    """Return how many slots a pool of this kind (cpu, gpu or dvc) gets when it is made."""
    given = os.environ.get(SLOTS_VARIABLE.format(kind.upper()))
    if given:
        return int(given)
    if kind == "cpu":
        return os.cpu_count() or 1
    return max(1, len(list(GPU_FILES.glob("nvidia[0-9]*")))) if kind == "gpu" else 1


def make_pools() -> list[str]:
    """Make the pools that the workspaces name, and the usual ones; one that is there keeps the slots it has.

    Needs a connection to Airflow's database. Returns the names of those that were made. Workspaces with params that are
    not valid have none: the DAG processor tells of them.
    """
    from airflow.models.pool import Pool

    wanted = [PoolParams()]
    for folder in find_workspaces():
        with suppress(ParamsError):
            wanted.append(load_params(folder).airflow.pools)
    made = []
    for pools in wanted:
        for kind, name in pools.model_dump().items():
            if Pool.get_pool(name) is None:
                Pool.create_or_update_pool(
                    name, slots=pool_slots(kind), description=DESCRIPTIONS[kind], include_deferred=False
                )
                made.append(name)
    return made
