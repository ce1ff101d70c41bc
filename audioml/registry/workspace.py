"""What the registry needs to know of a workspace; `audioml.pipeline.context.Context` has it all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from audioml.params import Params


class ModelUser(Protocol):
    """What using a registered model takes."""

    @property
    def state(self) -> Path:
        """The folder that keeps what was downloaded, and the workspace's own tracking server if it has one."""

    @property
    def model_name(self) -> str:
        """The registered name of the model that is meant where none is named."""


@dataclass(frozen=True)
class Elsewhere:
    """A model user on a machine that has no workspace: its tracking server and its model are named."""

    state: Path
    model_name: str


class Workspace(ModelUser, Protocol):
    """A workspace as the registry, the server and batch prediction see it."""

    @property
    def workspace(self) -> Path:
        """Its folder."""

    @property
    def params(self) -> Params:
        """Its params.yaml."""

    def path(self, relative: str) -> Path:
        """Return the absolute path of one of its files."""

    def lock_digest(self, relative: str) -> str | None:
        """Return the hash that dvc.lock holds for an output, if any."""
