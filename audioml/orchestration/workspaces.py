"""Which workspaces an installation serves: those that `AUDIOML_WORKSPACES` names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from audioml.errors import ParamsError
from audioml.params import FILE_NAME

VARIABLE = "AUDIOML_WORKSPACES"
"""Environment variable: folders of workspaces, separated as in PATH, or by commas; or a JSON list of them, which takes
any character."""

BUNDLES = json.dumps(
    [{"name": "audioml", "classpath": "audioml.orchestration.airflow.bundle.WorkspacesBundle", "kwargs": {}}]
)
"""Airflow's setting `[dag_processor] dag_bundle_config_list`: the DAGs of the workspaces that the variable names."""


def find_workspaces() -> list[Path]:
    """Return the folders that the variable names, each once.

    Raises
    ------
    ParamsError
        When the variable is not set, or holds JSON that is no list of folders.
    """
    named = _parse(os.environ.get(VARIABLE, "").strip())
    if not named:
        raise ParamsError(f"No workspace is known: set {VARIABLE} to the folders of workspaces.")
    return list(dict.fromkeys(Path(folder).expanduser().resolve() for folder in named))


def check_name(folder: Path, name: str, suffixes: Sequence[str]) -> None:
    """Raise when a workspace that the variable names before this one has DAGs of the same name.

    Parameters
    ----------
    folder : Path
        The workspace.
    name : str
        Its name, which its DAGs have: alone, and with a dot and each of the suffixes.
    suffixes : sequence of str
        Names of a workspace's DAGs after the dot.

    Raises
    ------
    ParamsError
        With the folder of the other one.
    """
    ours = {name, *(f"{name}.{suffix}" for suffix in suffixes)}
    for other in find_workspaces() if os.environ.get(VARIABLE, "").strip() else []:
        if other == folder.resolve():
            return
        found = _read_name(other)
        if found and ours & {found, *(f"{found}.{suffix}" for suffix in suffixes)}:
            raise ParamsError(
                f"{other} is called {found!r} and has DAGs of the same name. Give one of the two another 'name' in its "
                f"{FILE_NAME}."
            )


def name_workspaces(folders: Iterable[Path]) -> str:
    """Return the value of the variable that names these folders, whatever characters they hold."""
    return json.dumps([str(folder) for folder in folders])


def _read_name(folder: Path) -> str | None:
    """Return the name in a params.yaml without reading the rest, which may be broken."""
    try:
        found = re.search(r"^name: *['\"]?([\w.-]+)", (folder / FILE_NAME).read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return None
    return found[1] if found else None


def _parse(value: str) -> list[str]:
    if not value.startswith("["):
        return [folder.strip() for folder in re.split(f"[,{os.pathsep}]", value) if folder.strip()]
    try:
        folders = json.loads(value)
    except ValueError:
        folders = None
    if not isinstance(folders, list) or not all(isinstance(folder, str) for folder in folders):
        raise ParamsError(
            f"{VARIABLE} starts with [, but is no JSON list of folders: {value!r}. Write it as "
            f'["/data/birds", "/data/whales"], or as /data/birds{os.pathsep}/data/whales.'
        )
    return folders
