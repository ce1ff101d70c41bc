"""What the registry needs to know of a workspace; `audioml.pipeline.context.Context` has it all."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from audioml.params import Params


class Workspace(Protocol):
    """A workspace as the registry, the server and batch prediction see it."""

    @property
    def workspace(self) -> Path:
        """Its folder."""

    @property
    def params(self) -> Params:
        """Its params.yaml."""

    @property
    def state(self) -> Path:
        """Its folder for state that is no output."""

    @property
    def model_name(self) -> str:
        """The registered name of its model."""

    def path(self, relative: str) -> Path:
        """Return the absolute path of one of its files."""

    def lock_digest(self, relative: str) -> str | None:
        """Return the hash that dvc.lock holds for an output, if any."""
