"""End what an Airflow run left on this host: the last thing that a run does.

A step's child dies with the Airflow task that started it, and its own children with it. A process that escapes
this (a library that starts one in a session of its own, say) still carries the run's mark.
"""

from __future__ import annotations

from audioml.errors import ServiceError
from audioml.processes import PATIENCE_S, RUN_MARK, describe, end_marked


def reap_run(run_key: str) -> list[str]:
    """End every process of this host whose environment has `AUDIOML_RUN` set to `run_key`.

    This process and those it runs under are spared, as are processes of other users.

    Returns
    -------
    list of str
        What was ended: pid and command line of each; usually nothing.

    Raises
    ------
    ServiceError
        When one is left even after SIGKILL.
    """
    ended, stubborn = end_marked(RUN_MARK, run_key, PATIENCE_S)
    if stubborn:
        names = ", ".join(describe(process) for process in stubborn)
        raise ServiceError(
            f"Processes of the run {run_key} do not end, even after SIGKILL: {names}. They wait for the kernel "
            "(a disk or a GPU that does not answer); the host may need a restart."
        )
    return ended
