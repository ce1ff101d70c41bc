"""The server's log: a JSON object a line, on standard error."""

from __future__ import annotations

import datetime
import logging
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any, TextIO

import orjson

LOGGERS = ("audioml.serving", "uvicorn.error")
LOOK_S = 0.05


class JsonFormatter(logging.Formatter):
    """Writes time, level, logger and message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        line = {"time": _time(record.created), "level": record.levelname.lower(), "logger": record.name}
        line["message"] = record.getMessage()
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def log_to_stderr(level: int = logging.INFO) -> None:
    """Have the server's loggers write to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level if name != "uvicorn.error" else logging.WARNING)


class RequestLog:
    """Writes a line a request, in a thread of its own: a logger would take a tenth of a small answer's time.

    Parameters
    ----------
    stream
        Where lines go; None is standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        # Adding to it takes no lock, and wakes no thread.
        self._lines: deque[tuple[float, dict[str, Any]]] = deque()
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._work, name="request-log", daemon=True)
        self._thread.start()

    def add(self, fields: dict[str, Any]) -> None:
        """Have a line written, soon."""
        self._lines.append((time.time(), fields))

    def close(self) -> None:
        """Write what waits, and end the thread."""
        self._ends.set()
        self._thread.join()

    def _work(self) -> None:
        ends = False
        while not ends:
            ends = self._ends.wait(LOOK_S)
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            text = "".join(orjson.dumps({"time": _time(at_s), **fields}).decode() + "\n" for at_s, fields in lines)
            # Whoever reads the log may have gone, or its disk be full: answers go on.
            with suppress(OSError, ValueError):
                self._stream.write(text)
                self._stream.flush()


def _time(at_s: float) -> str:
    return datetime.datetime.fromtimestamp(at_s, datetime.UTC).isoformat(timespec="milliseconds")
