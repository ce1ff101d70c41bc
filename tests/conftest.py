"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def _data_folder(name: str) -> Path:
    root = Path(os.environ.get("AUDIOML_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    folder = root / name
    if not folder.is_dir():
        pytest.skip(f"real recordings are not at {folder}; set AUDIOML_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def fsdd_dir() -> Path:
    """The folder of FSDD recordings, or skip."""
    return _data_folder("fsdd/recordings")


@pytest.fixture(scope="session")
def esc10_dir() -> Path:
    """The folder of ESC-10 classes, or skip."""
    return _data_folder("esc10")


@pytest.fixture
def minimal_params() -> dict[str, Any]:
    """The fewest sections that params.yaml can hold; a fresh copy."""
    return {
        "name": "digits",
        "data": {"layout": "folder", "source": "/somewhere"},
        "features": {"name": "logmel"},
        "task": {"name": "classification"},
        "model": {"name": "bcresnet"},
    }
