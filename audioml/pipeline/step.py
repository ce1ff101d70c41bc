"""What a step is: data about files and params here, and three functions in `steps/<name>.py`.

The functions of a step module:

- ``plan(ctx) -> list[Item]``: the work items that are still to do; cheap, changes nothing.
- ``work(ctx, item) -> dict``: one item; idempotent and atomic; returns a small JSON summary.
- ``collect(ctx) -> dict``: merge, check, report, after all items; returns a small JSON summary.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from audioml.pipeline.context import Context


@dataclass(frozen=True)
class Item:
    """One unit of work. `payload` is JSON and all that `work` needs beside the workspace."""

    id: str
    """Stable and short: a hash of what the item holds, or a fixed word for steps with one item."""
    label: str
    """What people read in the Airflow UI, such as ``400 clips, 36 MB``."""
    payload: dict[str, Any] = field(default_factory=dict)
    clips: int = 0
    """Clips, or recordings, in it; 0 where they are not counted."""


class StepModule(Protocol):
    """The three functions of `steps/<name>.py`."""

    def plan(self, ctx: Context) -> list[Item]:
        """Return the items that are still to do."""

    def work(self, ctx: Context, item: Item) -> dict[str, Any]:
        """Do one item."""

    def collect(self, ctx: Context) -> dict[str, Any]:
        """Merge what the items made."""


@dataclass(frozen=True)
class Output:
    """A file or folder that a step writes, relative to the workspace."""

    path: str
    kind: str = "data"
    """data (DVC cache), metrics, plots, or small (kept in git, not in the DVC cache)."""
    persist: bool = False
    """True for outputs that grow: DVC must not delete them before the step runs."""


@dataclass(frozen=True)
class Step:
    """One step of the pipeline, as data. `graph.py` holds them all."""

    name: str
    summary: str
    inputs: tuple[str, ...]
    """Paths relative to the workspace; ``${...}`` is filled from params, as DVC does."""
    outputs: tuple[Output, ...]
    params: tuple[str, ...]
    """Keys of params.yaml whose change makes the step run again."""
    code: tuple[str, ...]
    """Files and folders of the package whose change makes the step run again."""
    mapped: bool = False
    """True if Airflow spreads its items over mapped Airflow tasks."""
    spawned: bool = False
    """True if each of several items gets a command of its own, as training may start further processes by repeating
    the command that it was started with."""

    def load(self) -> StepModule:
        """Import the step's module. Heavy: only processes that run the step do this."""
        return cast(StepModule, importlib.import_module(f"audioml.pipeline.steps.{self.name}"))
