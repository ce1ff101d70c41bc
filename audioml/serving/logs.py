"""The server's log on standard error: a JSON object a line."""

from __future__ import annotations

import datetime
import logging

import orjson

LOGGERS = ("audioml.serving", "uvicorn.error")


class JsonFormatter(logging.Formatter):
    """Writes time, level, logger and message, or the fields that a record brings in `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds")
        line = {"time": time, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def log_to_stderr(level: int = logging.INFO) -> None:
    """Have the server's loggers write to standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level if name != "uvicorn.error" else logging.WARNING)
