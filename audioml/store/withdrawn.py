"""The recordings that were withdrawn from a workspace: `withdrawn.json`, kept in git, which ingest leaves out.

A recording is known by its bytes, so it stays out wherever it lies and whatever it is called. What is withdrawn is
never the place: another recording may come to the same path.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from audioml.errors import StoreError
from audioml.store.files import write_json

WITHDRAWN = "withdrawn.json"
"""In the workspace. There is none while nothing was withdrawn."""
REASON = "withdrawn"
"""Why such a recording is in the quarantine."""


@dataclass(frozen=True)
class Withdrawal:
    """One recording that was withdrawn."""

    path: str
    """Relative to the source, where it lay then."""
    sha256: str
    """Of the file's bytes; empty where it was cut into clips and the file could not be read any more."""
    clips: tuple[str, ...]
    """Ids of the clips made from it; of a recording that was taken whole, its SHA-256."""
    time: str
    """ISO 8601, in UTC."""
    by: str
    reason: str

    def describe(self) -> str:
        """Return what the quarantine says of it."""
        return f"withdrawn by {self.by} on {self.time[:10]}: {self.reason}"


@dataclass(frozen=True)
class Withdrawn:
    """All withdrawals of a workspace, oldest first."""

    entries: tuple[Withdrawal, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.entries)

    @cached_property
    def by_id(self) -> dict[str, Withdrawal]:
        """The withdrawal of each file's hash and of each clip."""
        return {key: entry for entry in self.entries for key in (entry.sha256, *entry.clips) if key}

    def add(self, entries: Iterable[Withdrawal]) -> Withdrawn:
        """Return a copy with these too; one whose bytes are withdrawn already stays as it was."""
        fresh = [entry for entry in entries if not {entry.sha256, *entry.clips} - {""} <= self.by_id.keys()]
        return Withdrawn((*self.entries, *fresh))


def read_withdrawn(path: Path) -> Withdrawn:
    """Read the list; empty where there is none.

    Raises
    ------
    StoreError
        When it is not what `write_withdrawn` writes: then nothing may be ingested, as it might be withdrawn.
    """
    if not path.exists():
        return Withdrawn()
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["recordings"]
        return Withdrawn(tuple(Withdrawal(**{**row, "clips": tuple(row["clips"])}) for row in rows))
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path} is no list of withdrawn recordings ({error}). Bring it back with: git checkout -- {path.name}"
        ) from None


def write_withdrawn(path: Path, withdrawn: Withdrawn) -> None:
    """Write the list, whole or not at all."""
    write_json(path, {"recordings": [asdict(entry) for entry in withdrawn.entries]})
