"""Wait for what another process does, by looking often, with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil

DEADLINE_S = 120.0


def wait_until(holds: Callable[[], object], what: str) -> None:
    """Return once `holds()` is true; fail after two minutes, which no machine that works takes."""
    deadline = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline, f"after {DEADLINE_S:.0f} s not yet: {what}"
        time.sleep(0.02)


def has_ended(process: psutil.Process) -> bool:
    """Tell whether a process has ended; one that nobody has reaped yet has."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
