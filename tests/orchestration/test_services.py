import os
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from audioml.orchestration.services import (
    MARK,
    describe_process,
    log_tail,
    marked_processes,
    read_services,
    stop_all,
    stop_services,
    write_services,
)

SLEEP_S = 600
FAMILY = f"""
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *a: sys.exit(0))
escaped = subprocess.Popen([sys.executable, "-c", "import time; time.sleep({SLEEP_S})"], start_new_session=True)
print(escaped.pid, flush=True)
time.sleep({SLEEP_S})
"""


@pytest.fixture
def family(tmp_path):
    """A process marked as part of a stack, with a child in a session of its own."""
    environment = {**os.environ, MARK: str(tmp_path)}
    command = [sys.executable, "-c", FAMILY]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        escaped = psutil.Process(int(process.stdout.readline()))
        yield process, escaped
        for left in (process, escaped):
            if left.pid and psutil.pid_exists(left.pid):
                left.kill()


def ended(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def test_records_are_read_back(tmp_path):
    service = describe_process("api-server", os.getpid(), tmp_path / "a.log", port=80, url="http://x:80")
    write_services(tmp_path, [service])
    assert read_services(tmp_path) == {"api-server": service}
    assert service.runs()


def test_a_later_process_with_the_same_pid_is_another(tmp_path):
    service = describe_process("scheduler", os.getpid(), tmp_path / "a.log")
    assert not replace(service, create_time=service.create_time - 60).runs()


@pytest.mark.parametrize("text", ["", "{", "{}", '{"services": {"a": {"pid": 1}}}'])
def test_records_that_cannot_be_read_count_as_none(tmp_path, text):
    (tmp_path / "stack.json").write_text(text)
    assert read_services(tmp_path) == {}


def test_log_tail(tmp_path):
    log = tmp_path / "a.log"
    assert log_tail(log) == ""
    log.write_text("".join(f"{i}\n" for i in range(100)))
    assert log_tail(log, lines=2) == "98\n99"


def test_stop_all_ends_what_no_record_names(tmp_path, family):
    process, escaped = family
    write_services(tmp_path, [describe_process("scheduler", process.pid, tmp_path / "a.log")])
    assert {p.pid for p in marked_processes(tmp_path)} == {process.pid, escaped.pid}
    stop_all(tmp_path)
    assert process.wait(timeout=30) == 0
    assert ended(escaped)
    assert marked_processes(tmp_path) == []


def test_stop_services_ends_descendants_in_other_sessions(tmp_path, family):
    process, escaped = family
    stop_services([describe_process("scheduler", process.pid, tmp_path / "a.log")])
    assert process.wait(timeout=30) == 0
    assert ended(escaped)


def test_the_mark_of_another_stack_is_spared(tmp_path, family):
    process, _ = family
    stop_all(tmp_path / "other")
    assert process.poll() is None
