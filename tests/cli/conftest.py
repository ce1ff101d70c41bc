from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.fixture
def run_cli():
    """A function that runs the command line in a process of its own."""

    def run(*arguments, cwd):
        return subprocess.run(
            [sys.executable, "-m", "audioml", *arguments],
            cwd=cwd,
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "200"},
        )

    return run
