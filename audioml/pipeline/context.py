"""What a step knows of where it runs: the workspace, its params, its paths."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from audioml.errors import StepError
from audioml.params import Params, load_params

if TYPE_CHECKING:
    from audioml.datasets._source import Source

STATE_DIR = ".audioml"
"""What is no output (Airflow home, MLflow database, logs, plans) lives here, ignored by git."""
COMPACTION = "compaction.json"
"""File in it that says which steps were up to date before a compaction that is not finished."""


@dataclass(frozen=True)
class Context:
    """A workspace and its params. Frozen; steps get one and never change the current folder."""

    workspace: Path
    params: Params
    partition: str | None = None
    """Key of the only partition that `ingest` looks at; None for the whole source."""

    @classmethod
    def load(cls, workspace: Path | str = ".", partition: str | None = None) -> Context:
        """Read the params of the workspace at this path.

        Raises
        ------
        ParamsError
            When the folder is no workspace, or its params are not valid.
        """
        root = Path(workspace).resolve()
        context = cls(root, load_params(root), partition)
        context.link_code()
        return context

    def path(self, relative: str) -> Path:
        """Return the absolute path of a file of the workspace."""
        return self.workspace / relative

    def require(self, relative: str, made_by: str) -> Path:
        """Return the path of an input, or say which step makes it.

        Raises
        ------
        StepError
            When the file is missing.
        """
        path = self.path(relative)
        if not path.exists():
            raise StepError(f"{relative} is missing in {self.workspace}. Make it with: audioml run {made_by}")
        return path

    @property
    def state(self) -> Path:
        """The folder for state that is no output."""
        return self.workspace / STATE_DIR

    @cached_property
    def source(self) -> Source | None:
        """The source of recordings; None for layouts that make their clips."""
        from audioml.datasets._source import Source

        data = self.params.data
        return None if data.source is None else Source.of(data.source, self.workspace, data.storage_options)

    @property
    def model_name(self) -> str:
        """The registered name of the workspace's model."""
        return self.params.registry.name or self.params.name

    def link_code(self) -> None:
        """Point `.audioml/code` at this installation of the package.

        dvc.yaml names the package's files through this link as dependencies, so that `dvc repro`
        sees a change of code, while no path of one machine gets into dvc.yaml or dvc.lock.
        """
        target = Path(__file__).resolve().parents[1]
        link = self.state / "code"
        if link.is_symlink() and link.readlink() == target:
            return
        self.state.mkdir(exist_ok=True)
        fresh = self.state / f"code.{os.getpid()}"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(target)
        fresh.replace(link)

    def read_lock(self) -> dict[str, Any]:
        """Return the stages of dvc.lock by name; none if there is no such file yet."""
        path = self.path("dvc.lock")
        if not path.exists():
            return {}
        # It names each file of code. PyYAML's own parser takes seven times as long as libyaml's.
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        stages: dict[str, Any] = (yaml.load(path.read_text(encoding="utf-8"), loader) or {}).get("stages", {})
        return stages

    def lock_digest(self, relative: str) -> str | None:
        """Return the hash that dvc.lock holds for an output, or None if it holds none yet."""
        for stage in self.read_lock().values():
            for out in stage.get("outs", []):
                if out["path"] == relative:
                    return str(out["md5"])
        return None
