"""Fixtures for the drivers: a small workspace, and Airflow as a library with a home of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PARAMS = """\
name: {name}
data:
  layout: folder
  source: recordings
features:
  name: logmel
task:
  name: classification
model:
  name: bcresnet
"""


@pytest.fixture(scope="session", autouse=True)
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep Airflow, once something imports it, from the user's home and from setting itself up."""
    home = tmp_path_factory.mktemp("airflow")
    os.environ["AIRFLOW_HOME"] = str(home)
    os.environ["_AIRFLOW__AS_LIBRARY"] = "1"
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    return home


def write_workspace(folder: Path, name: str = "birds", more: str = "") -> Path:
    """Write a params.yaml and a DAG file."""
    from audioml.orchestration.dag_file import DAG_FILE, DAG_FILE_PATH

    (folder / "dags").mkdir(parents=True)
    (folder / "params.yaml").write_text(PARAMS.format(name=name) + more, encoding="utf-8")
    (folder / DAG_FILE_PATH).write_text(DAG_FILE, encoding="utf-8")
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace called birds, without data."""
    return write_workspace(tmp_path / "birds")
