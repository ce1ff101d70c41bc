from __future__ import annotations

import io
import json
import logging

from audioml.serving.logs import JsonFormatter, RequestLog


def test_a_line_a_request() -> None:
    stream = io.StringIO()
    log = RequestLog(stream)
    for i in range(100):
        log.add({"request_id": f"r{i}", "path": "/prädict"})
    log.close()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["request_id"] for line in lines] == [f"r{i}" for i in range(100)]
    assert set(lines[0]) == {"time", "request_id", "path"}


def test_a_log_that_nobody_reads_any_more_stops_nothing() -> None:
    stream = io.StringIO()
    stream.close()
    log = RequestLog(stream)
    log.add({"request_id": "r"})
    log.close()


def test_a_fault_is_one_line_with_its_traceback() -> None:
    try:
        raise ValueError("schlecht")
    except ValueError as error:
        record = logging.LogRecord("audioml.serving", logging.ERROR, "", 1, "failed: %s", ("x",), (None, error, None))
        record.exc_info = (ValueError, error, error.__traceback__)
    text = JsonFormatter().format(record)
    line = json.loads(text)
    assert "\n" not in text
    assert (line["level"], line["message"]) == ("error", "failed: x")
    assert "ValueError: schlecht" in line["traceback"]
