import os
import subprocess
import sys

import psutil
import pytest

from audioml.processes import die_with, end_marked, end_processes, find_process, marked_processes, start_time

from ._polling import has_ended, wait_until

MARK = "AUDIOML_TEST_MARK"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); signal.pause()"


def start(code, **environment):
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, **environment})
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.fixture
def stubborn():
    """A marked process that ignores SIGTERM."""
    with start(STUBBORN, **{MARK: "mine"}) as process:
        yield process
        process.kill()


def test_a_process_is_known_by_pid_and_start(stubborn):
    started = start_time(stubborn.pid)
    assert find_process(stubborn.pid, started) == psutil.Process(stubborn.pid)
    assert find_process(stubborn.pid, started - 60) is None
    stubborn.kill()
    wait_until(lambda: find_process(stubborn.pid, started) is None, "it has ended")  # A zombie until it is waited for.
    stubborn.wait()
    assert start_time(stubborn.pid) == 0.0


def test_ends_by_sigkill_what_ignores_sigterm(stubborn):
    process = psutil.Process(stubborn.pid)
    assert end_processes([process], [process], patience_s=0.1) == []
    assert has_ended(process)


def test_marked_processes_are_found_and_ended_others_and_oneself_not(stubborn, monkeypatch):
    monkeypatch.setenv(MARK, "mine")
    with start(STUBBORN, **{MARK: "another's"}) as other:
        assert [process.pid for process in marked_processes(MARK, "mine")] == [stubborn.pid]
        ended, left = end_marked(MARK, "mine")
        assert ([line.partition(" ")[0] for line in ended], left) == ([str(stubborn.pid)], [])
        assert other.poll() is None
        other.kill()
    assert end_marked(MARK, "mine") == ([], [])


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")
def test_whose_parent_is_gone_already_does_not_live_on():
    done = subprocess.run([sys.executable, "-c", "print('lives')"], preexec_fn=die_with(1), capture_output=True)
    assert (done.returncode, done.stdout) == (-9, b"")
