"""Processes of this host: which one a record means, which carry a mark, how they end, and with whom.

A mark is an environment variable. Children inherit it whatever sessions or process groups they make, and nobody
can take it off a process that runs, so marked processes are found after their parents have died.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import connection

import psutil

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Worker processes get one thread each: threads in libraries times processes stall."""
RUN_MARK = "AUDIOML_RUN"
"""Mark of what an Airflow run starts; holds the run's key."""
PATIENCE_S = 4.0
"""Seconds from SIGTERM to SIGKILL. Steps are safe to kill, and Airflow's scheduler waits for them to end."""
POLL_INTERVAL_S = 0.05
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_SAME_START_S = 1.0
"""Two reads of a process's start differ by less; a later process with its pid starts later than that."""


def start_time(pid: int) -> float:
    """Return when a process started, in seconds since the epoch; 0.0 if it has ended already."""
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0


def find_process(pid: int, create_time: float) -> psutil.Process | None:
    """Return the process that had this pid when it started then; None if it has ended, whoever has its pid now."""
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - create_time) < _SAME_START_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def marked_processes(variable: str, value: str) -> list[psutil.Process]:
    """Return all processes with this mark, except this one and those it runs under."""
    spared = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in spared:
            continue
        try:
            if process.environ().get(variable) == value and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, OSError):
            continue
    return found


def end_processes(
    ask: Iterable[psutil.Process], kill: Iterable[psutil.Process], patience_s: float = PATIENCE_S
) -> list[psutil.Process]:
    """Send SIGTERM to `ask` and wait for all of `kill`; SIGKILL those of `kill` that are left after `patience_s`.

    Returns
    -------
    list of Process
        Those that outlived SIGKILL, as one that waits for a broken disk or GPU does.
    """
    ask = list(ask)
    _signal(ask, psutil.Process.terminate)
    left = _wait_for_end(list(kill), patience_s if ask else 0.0)
    _signal(left, psutil.Process.kill)
    return _wait_for_end(left, PATIENCE_S)


def end_marked(variable: str, value: str, patience_s: float = 0.0) -> tuple[list[str], list[psutil.Process]]:
    """End every process with this mark except this one and those it runs under: SIGTERM, after `patience_s` SIGKILL.

    Returns
    -------
    list of str
        What was ended: pid and command line of each.
    list of Process
        Those that outlived SIGKILL.
    """
    ended: dict[int, str] = {}
    stubborn: list[psutil.Process] = []
    for _ in range(4):  # A process may start another between being listed and being killed.
        marked = marked_processes(variable, value)
        if not marked:
            return list(ended.values()), []
        ended |= {process.pid: describe(process) for process in marked}
        stubborn = end_processes(marked if patience_s else [], marked, patience_s)
    return list(ended.values()), stubborn


def describe(process: psutil.Process) -> str:
    """Return a process's pid and command line, as people tell it from others."""
    try:
        command = " ".join(process.cmdline())
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        command = "?"
    return f"{process.pid} ({command})"


def die_with(parent: int) -> Callable[[], None]:
    """Return what a child does first: ask the kernel for SIGKILL when `parent` dies (Linux only).

    SIGKILL, because libraries catch SIGTERM to end at a time of their own; every step is safe to kill. A child that
    comes too late, whose parent is not `parent` any more, kills itself.
    """
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return ask


def end_with_parent() -> None:
    """Let a worker process of `multiprocessing` end when its parent does, however it dies."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def one_thread_children() -> Iterator[None]:
    """Have processes that are started in the block take one thread each for their libraries."""
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _signal(processes: Iterable[psutil.Process], send: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        try:
            send(process)
        except psutil.NoSuchProcess:
            continue


def _wait_for_end(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait for processes to end, and return those that have not.

    Not psutil's wait: a process that another living process started stays a zombie until that one reaps it.
    """
    deadline = time.monotonic() + seconds
    left = _alive(processes)
    while left and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL_S)
        left = _alive(left)
    return left


def _alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    alive = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
        except psutil.NoSuchProcess:
            continue
    return alive
