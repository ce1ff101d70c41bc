"""Run audioml's own command line as a child process that never outlives its parent."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from audioml.errors import ServiceError
from audioml.processes import die_with

_TAIL_LINES = 40
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class ChildError(ServiceError):
    """A child process ended with an exit status other than 0. The message is the child's own."""

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def run_child(
    command: Sequence[str],
    folder: Path,
    log: Callable[[str], None],
    *,
    environment: Mapping[str, str] | None = None,
    capture: bool = False,
    on_start: Callable[[subprocess.Popen[str]], None] | None = None,
) -> str:
    """Run a command, pass its output to `log` line by line, and return its standard output if captured.

    The child stays in the process group of its parent, so that who kills the group reaches it, and the
    kernel kills it when its parent dies. The parent's interpreter comes first in its PATH.

    Parameters
    ----------
    command : sequence of str
        Program and arguments; no shell is involved.
    folder : Path
        The child's current folder.
    log : callable
        Gets each line of standard error, and of standard output unless it is captured.
    environment : mapping, optional
        Added to this process's environment.
    capture : bool
        True to return standard output instead of logging it.
    on_start : callable, optional
        Gets the process once it runs, so that a signal handler can end it.

    Raises
    ------
    ChildError
        With the error that the child printed last, and its exit status (negative for a signal).
    """
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as captured:
        with subprocess.Popen(
            command,
            cwd=folder,
            env=_child_environment(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=captured if capture else subprocess.PIPE,
            stderr=subprocess.PIPE if capture else subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            preexec_fn=die_with(os.getpid()),
        ) as process:
            if on_start:
                on_start(process)
            stream = process.stderr if capture else process.stdout
            assert stream is not None
            try:
                for line in stream:
                    text = _ANSI.sub("", line).rstrip()
                    if text:
                        tail.append(text)
                        log(text)
                status = process.wait()
            except BaseException:
                process.kill()
                raise
        if status != 0:
            raise ChildError(describe_failure(list(tail), status), status)
        captured.seek(0)
        return captured.read()


def describe_failure(tail: list[str], exit_status: int) -> str:
    """Return the error a command printed last, or what its exit status says where it printed none."""
    if exit_status < 0:
        name = signal.Signals(-exit_status).name
        hint = " (out of memory?)" if exit_status == -signal.SIGKILL else ""
        return f"killed by {name}{hint}"
    for start in range(len(tail) - 1, -1, -1):
        if tail[start].startswith("Error "):
            return "\n".join([tail[start].removeprefix("Error "), *tail[start + 1 :]])
    return tail[-1] if tail else f"exit status {exit_status}"


def _child_environment(added: Mapping[str, str]) -> dict[str, str]:
    programs = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": os.pathsep.join([programs, os.environ.get("PATH", os.defpath)]),
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "160",
        **added,
    }
