"""What a killed Airflow task leaves: nothing, by the death of parents or by the reaper."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from audioml.orchestration.reaper import reap_run
from audioml.processes import RUN_MARK
from audioml.training.devices import lease_devices

from .._polling import has_ended, wait_until

FAMILY = """
import multiprocessing, os, signal, subprocess, sys
from audioml.training.devices import lease_devices

RANK = '''
import os, signal
from audioml.training.devices import lease_devices
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with lease_devices(1, group="training", joins=True):
    print("rank", os.getpid(), flush=True)
    signal.pause()
'''

if __name__ == "__main__":
    with lease_devices(1, group="training"):
        pool = multiprocessing.get_context("forkserver").Pool(1)
        print("worker", pool.apply(os.getpid), flush=True)
        print("server", multiprocessing.forkserver._forkserver._forkserver_pid, flush=True)
        escaped = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
        print("escaped", escaped.pid, flush=True)
        subprocess.Popen([sys.executable, "-c", RANK])
        print("first", os.getpid(), flush=True)
        signal.pause()
"""
MEMBERS = {"first", "worker", "server", "escaped", "rank"}


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, psutil.Process]]:
    """A marked training that leased a device: workers of a fork server, a rank, one in a session of its own."""
    monkeypatch.setenv("AUDIOML_DEVICES", "0")
    monkeypatch.setenv("AUDIOML_DEVICE_LOCKS", str(tmp_path / "locks"))
    script = tmp_path / "family.py"
    script.write_text(FAMILY)
    environment = {**os.environ, RUN_MARK: "birds.train 1"}
    members: dict[str, psutil.Process] = {}
    with subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while members.keys() != MEMBERS:
            name, pid = process.stdout.readline().split()
            members[name] = psutil.Process(int(pid))
        yield members
        for member in members.values():
            if not has_ended(member):
                member.kill()


def test_reaping_ends_a_whole_training_and_frees_its_device(family: dict[str, psutil.Process]) -> None:
    ended = reap_run("birds.train 1")
    assert {str(member.pid) for member in family.values()} <= {line.partition(" ")[0] for line in ended}
    assert all(has_ended(member) for member in family.values())
    with lease_devices(1, group="next") as lease:
        assert lease.devices == ("0",)
    assert reap_run("birds.train 1") == []


def test_reaping_finds_what_outlives_a_killed_training(family: dict[str, psutil.Process]) -> None:
    family["first"].kill()
    wait_until(lambda: has_ended(family["first"]), "the training is dead")
    assert not has_ended(family["rank"])
    reap_run("birds.train 1")
    assert all(has_ended(member) for member in family.values())


def test_another_runs_processes_are_spared(family: dict[str, psutil.Process]) -> None:
    assert reap_run("birds.train 2") == []
    assert not any(has_ended(member) for member in family.values())
