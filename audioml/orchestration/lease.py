"""The lease of a workspace: one DAG run at a time works in it, whichever of its DAGs that is of.

A file in the state folder names the holder. A holder that has ended without giving it back (its Airflow was killed,
its run deleted) loses it to the next one that asks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from audioml.pipeline.context import STATE_DIR
from audioml.store.files import read_json, write_json
from audioml.store.locks import hold_lock

FILE = "lease.json"


@dataclass(frozen=True)
class Holder:
    """The DAG run that holds a workspace."""

    dag_id: str
    run_id: str
    airflow: str = ""
    """Which Airflow it is of: the state folder of an embedded one, empty for a cluster's."""

    @property
    def key(self) -> str:
        """Names the run among those of all DAGs."""
        return f"{self.dag_id}/{self.run_id}"


def take(workspace: Path, holder: Holder, has_ended: Callable[[Holder], bool]) -> Holder | None:
    """Take the lease of a workspace, unless another run that goes on has it; return that one, or None if taken.

    Parameters
    ----------
    workspace : Path
        The workspace.
    holder : Holder
        Who asks. One that holds it already keeps it.
    has_ended : callable
        Tells whether the run of another holder of the same Airflow has ended. Of another Airflow's nobody here knows.
    """
    state = workspace / STATE_DIR
    with hold_lock(state / "locks" / "lease"):
        other = read_holder(workspace)
        if other not in (None, holder) and (other.airflow != holder.airflow or not has_ended(other)):
            return other
        write_json(state / FILE, {**asdict(holder), "since": datetime.now(UTC).isoformat(timespec="seconds")})
    return None


def give_back(workspace: Path, holder: Holder) -> None:
    """End the lease of a holder; of one that has lost it, nothing happens."""
    state = workspace / STATE_DIR
    with hold_lock(state / "locks" / "lease"):
        if read_holder(workspace) == holder:
            (state / FILE).unlink()


def read_holder(workspace: Path) -> Holder | None:
    """Return who holds a workspace, or None."""
    try:
        record = read_json(workspace / STATE_DIR / FILE)
    except FileNotFoundError:
        return None
    return Holder(record["dag_id"], record["run_id"], record.get("airflow", ""))
