"""Seconds and memory, measured side by side."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).resolve().parent

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def time_s(function: Callable[[], object]) -> float:
    """Return the wall seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def interleave(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Call the functions in turn, `rounds` times, and return the seconds of each call by name."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            seconds[name].append(time_s(function))
    return seconds


def best_and_median(seconds: list[float]) -> str:
    """Return both as text, in seconds."""
    return f"{min(seconds):.2f} (median {statistics.median(seconds):.2f})"


def run_child(code: str, *arguments: str) -> dict[str, Any]:
    """Run Python code in a fresh process, which gets the arguments in `sys.argv[1:]`.

    Returns
    -------
    The JSON object of its last line, if that is one, with `seconds`, and in MiB the peaks of resident memory `main_mib`
    (of that process) and `worker_mib` (of the largest of its descendants, looked at 20 times a second).
    """
    start = time.perf_counter()
    peaks = {"main_mib": 0.0, "worker_mib": 0.0}
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdout=output, env={**os.environ, **ONE_THREAD}, cwd=HERE
        )
        family = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                peaks["main_mib"] = max(peaks["main_mib"], _peak_mib(process.pid))
                for child in family.children(recursive=True):
                    peaks["worker_mib"] = max(peaks["worker_mib"], _peak_mib(child.pid))
            time.sleep(0.05)
        seconds = time.perf_counter() - start
        if process.returncode:
            raise SystemExit(f"{sys.executable} -c ... {' '.join(arguments)} ended with {process.returncode}")
        output.seek(0)
        lines = output.read().splitlines()
    answer = json.loads(lines[-1]) if lines and lines[-1].startswith("{") else {}
    return {**answer, "seconds": seconds, **peaks}


def _peak_mib(pid: int) -> float:
    """Return the peak of a process's resident memory so far, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
