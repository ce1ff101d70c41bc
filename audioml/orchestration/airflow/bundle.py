"""The DAG bundle of an installation: a file for each workspace that `AUDIOML_WORKSPACES` names.

Airflow keeps import errors by file, and schedules no DAG of a file that has one. So each workspace has a file of its
own, and a broken params.yaml in one harms no other.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from airflow.dag_processing.bundles.base import BaseDagBundle

from audioml.orchestration.workspaces import find_workspaces
from audioml.store.files import write_text

FILE = '''\
"""The DAGs of the workspace {folder}."""

from audioml.orchestration.airflow import build_dags

globals().update(build_dags({folder!r}))
'''
SUFFIX = ".py"


class WorkspacesBundle(BaseDagBundle):  # type: ignore[misc]
    """Files that are made anew from the list of workspaces whenever Airflow looks."""

    def initialize(self) -> None:
        """Write the files."""
        self.refresh()
        super().initialize()

    @property
    def path(self) -> Path:
        """Where the files are."""
        return Path(self.base_dir) / "workspaces"

    def get_current_version(self) -> None:
        """Return nothing: params.yaml is read as it is."""

    def refresh(self) -> None:
        """Write the file of each workspace, remove those of others."""
        files = {file_name(folder): FILE.format(folder=str(folder)) for folder in find_workspaces()}
        self.path.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            path = self.path / name
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                write_text(path, text)
        for path in self.path.glob(f"*{SUFFIX}"):
            if path.name not in files:
                path.unlink(missing_ok=True)


def file_name(folder: Path) -> str:
    """Return the name of a workspace's file: the folder's own, for people, and a hash of its path."""
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", folder.name) or "workspace"
    return f"{readable}_{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}{SUFFIX}"
