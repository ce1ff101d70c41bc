"""Background processes of a workspace: what runs, where its log is, and how to end all of it.

`stack.json` in the state folder has a record of each service. Every process of a stack also carries the mark
`AUDIOML_STACK` in its environment, which children inherit whatever sessions or groups they make, so that
`stop_all` finds those too that no record names.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from audioml import processes
from audioml.processes import end_marked, end_processes, find_process, start_time
from audioml.store.files import read_json, write_json

MARK = "AUDIOML_STACK"
"""Environment variable of every process of a stack; holds the workspace's state folder."""
RECORD = "stack.json"
LOG_TAIL_LINES = 20


@dataclass(frozen=True)
class Service:
    """One background process, as `stack.json` describes it."""

    name: str
    pid: int
    create_time: float
    """Start of the process in seconds since the epoch; tells it from a later process with its pid."""
    port: int | None
    url: str | None
    log: str

    def runs(self) -> bool:
        """Return whether this very process still runs."""
        return find_process(self.pid, self.create_time) is not None

    def log_tail(self) -> str:
        """Return the last lines of the log."""
        return log_tail(Path(self.log))


def describe_process(name: str, pid: int, log: Path, *, port: int | None = None, url: str | None = None) -> Service:
    """Return the record of a process that was just started."""
    return Service(name, pid, start_time(pid), port, url, str(log))


def read_services(state: Path) -> dict[str, Service]:
    """Return the recorded services by name, whether they still run or not."""
    try:
        records = read_json(state / RECORD)["services"]
        return {name: Service(name=name, **record) for name, record in records.items()}
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
        return {}


def write_services(state: Path, services: Iterable[Service]) -> None:
    """Record services in `stack.json`."""
    records = {s.name: {k: v for k, v in asdict(s).items() if k != "name"} for s in services}
    write_json(state / RECORD, {"services": records})


def log_tail(path: Path, lines: int = LOG_TAIL_LINES) -> str:
    """Return the last lines of a log; an empty string if there is none."""
    if not path.exists():
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        return "".join(deque(file, maxlen=lines)).rstrip()


def marked_processes(state: Path) -> list[psutil.Process]:
    """Return all processes that carry the mark of this stack, except this one and those it runs under."""
    return processes.marked_processes(MARK, str(state))


def stop_services(services: Iterable[Service]) -> None:
    """Ask services to end; end them and all their descendants after some seconds."""
    roots = [psutil.Process(s.pid) for s in services if s.runs()]
    tree = list(roots)
    for root in roots:
        try:
            tree.extend(root.children(recursive=True))
        except psutil.NoSuchProcess:
            continue
    end_processes(roots, tree)


def stop_all(state: Path) -> None:
    """End every process of a stack: the recorded services first, then whatever else carries its mark.

    The records stay, so that the next start takes the same ports.
    """
    running = [service for service in read_services(state).values() if service.runs()]
    # A workspace that was moved has recorded processes with the mark of the old place.
    stop_services(running)
    end_marked(MARK, str(state))
