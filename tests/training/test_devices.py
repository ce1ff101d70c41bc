from __future__ import annotations

import io
import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from audioml.errors import ParamsError
from audioml.training.devices import VISIBLE, lease_devices, node_devices

from .._polling import has_ended, wait_until

GPUS = "0, GPU-aa11\n1, GPU-bb22\n2, GPU-cc33\n"
HOLDER = """
import os, signal, subprocess, sys
from audioml.training.devices import lease_devices
wanted, group, joins, starts = int(sys.argv[1]), sys.argv[2], sys.argv[3] == "join", sys.argv[4:]
with lease_devices(wanted, group=group, joins=joins) as lease:
    print(os.getpid(), *lease.devices, flush=True)
    if starts:
        subprocess.Popen([sys.executable, *starts])
    signal.pause()
"""


@pytest.fixture(autouse=True)
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node with the devices 0 and 1."""
    monkeypatch.setenv("AUDIOML_DEVICES", "0,1")
    monkeypatch.setenv("AUDIOML_DEVICE_LOCKS", str(tmp_path / "locks"))
    monkeypatch.delenv(VISIBLE, raising=False)


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node whose driver knows three GPUs."""
    program = tmp_path / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat <<END\n{GPUS}END\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("AUDIOML_DEVICES")


class Waiter(threading.Thread):
    """Leases devices in a thread until it is told to give them back."""

    def __init__(self, wanted: int, group: str, *, share: bool = False) -> None:
        super().__init__(daemon=True)
        self.wanted, self.group, self.share = wanted, group, share
        self.said, self.devices = io.StringIO(), ()
        self.release = threading.Event()
        self.start()

    def run(self) -> None:
        console = Console(file=self.said, width=200)
        with lease_devices(self.wanted, group=self.group, share=self.share, console=console) as lease:
            self.devices = lease.devices
            self.release.wait()

    def has(self) -> bool:
        return bool(self.devices)

    def end(self) -> None:
        self.release.set()
        self.join()


def start_holder(*arguments: str) -> tuple[subprocess.Popen[str], list[str]]:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, *arguments], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    return holder, holder.stdout.readline().split()


def test_cuda_sees_what_is_leased_and_no_more() -> None:
    with lease_devices(1, group="a") as one:
        assert os.environ[VISIBLE] == ",".join(one.devices) == "0"
        with lease_devices(1, group="b") as other:
            assert other.devices == ("1",)
    assert VISIBLE not in os.environ
    with lease_devices(None, group="c") as both:
        assert both.devices == ("0", "1")


def test_more_than_there_are() -> None:
    with pytest.raises(ParamsError, match=r"3 are wanted, but this node has 2: 0, 1"), lease_devices(3, group="a"):
        pass


def test_without_a_gpu_nothing_is_leased(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("AUDIOML_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    with lease_devices(2, group="a") as lease:
        assert lease.devices == ()
    assert not (tmp_path / "locks").exists()


@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        (None, ("GPU-aa11", "GPU-bb22", "GPU-cc33")),
        ("2,0", ("GPU-cc33", "GPU-aa11")),
        ("GPU-bb", ("GPU-bb22",)),
        ("MIG-1/2, 1", ("MIG-1/2", "GPU-bb22")),
        ("1,9,0", ("GPU-bb22",)),
        ("-1", ()),
        ("", ()),
    ],
)
def test_devices_go_by_uuid_however_cuda_is_told(
    gpus: None, monkeypatch: pytest.MonkeyPatch, visible: str | None, devices: tuple[str, ...]
) -> None:
    if visible is not None:
        monkeypatch.setenv(VISIBLE, visible)
    assert node_devices() == devices


def test_one_waits_until_all_it_wants_are_free_and_says_for_whom() -> None:
    with lease_devices(1, group="a"):
        second = Waiter(2, "b")
        wait_until(lambda: f"0 is held by process {os.getpid()}" in second.said.getvalue(), "b says what it waits for")
        assert not second.has()
    wait_until(second.has, "b has its devices")
    assert second.devices == ("0", "1")
    second.end()


def test_who_wants_all_is_not_overtaken_by_those_that_want_few() -> None:
    with lease_devices(1, group="a"):
        large = Waiter(2, "large")
        wait_until(large.said.getvalue, "large waits")
        small = Waiter(1, "small")
        wait_until(lambda: "behind others" in small.said.getvalue(), "small waits behind large")
        assert not small.has()  # Though one device is free.
    wait_until(large.has, "large has its devices")
    assert not small.has()
    large.end()
    wait_until(small.has, "small has its device")
    small.end()


def test_devices_are_shared_among_those_that_share_only() -> None:
    first, second = Waiter(2, "a", share=True), Waiter(2, "b", share=True)
    wait_until(lambda: first.has() and second.has(), "both share")
    alone = Waiter(1, "c")
    wait_until(alone.said.getvalue, "c waits")
    first.end()
    assert not alone.has()
    second.end()
    wait_until(alone.has, "c has its device")
    sharing = Waiter(2, "d", share=True)
    wait_until(sharing.said.getvalue, "d waits")
    alone.end()
    wait_until(sharing.has, "d has its devices")
    sharing.end()


def test_many_that_want_some_all_get_them_and_never_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIOML_DEVICES", "a,b,c")
    monkeypatch.setattr("audioml.training.devices.POLL_INTERVAL_S", 0.001)
    in_use: Counter[str] = Counter()
    faults: list[str] = []
    guard = threading.Lock()

    def train(number: int) -> None:
        wanted = random.Random(number).randint(1, 3)
        with lease_devices(wanted, group=str(number), console=Console(file=io.StringIO())) as lease:
            with guard:
                in_use.update(lease.devices)
                faults.extend(name for name, n in in_use.items() if n > 1)
            with guard:
                in_use.subtract(lease.devices)

    threads = [threading.Thread(target=train, args=(n,), daemon=True) for n in range(24)]
    for thread in threads:
        thread.start()
    wait_until(lambda: not any(thread.is_alive() for thread in threads), "all had their turn")
    assert faults == []
    assert in_use.total() == 0


def test_a_killed_holder_frees_its_devices() -> None:
    holder, (_, *devices) = start_holder("2", "a", "lease")
    assert devices == ["0", "1"]
    waiter = Waiter(1, "b")
    wait_until(lambda: f"process {holder.pid}" in waiter.said.getvalue(), "b waits for the holder")
    with holder:
        holder.send_signal(signal.SIGKILL)
    wait_until(waiter.has, "b has a device")
    waiter.end()


def test_a_device_is_held_until_the_last_of_a_training_is_gone() -> None:
    holder, _ = start_holder("1", "a", "lease", "-c", HOLDER, "1", "a", "join")
    assert holder.stdout is not None
    pid, *devices = holder.stdout.readline().split()
    rank = psutil.Process(int(pid))
    assert devices == ["0"]
    waiter = Waiter(2, "b")
    wait_until(waiter.said.getvalue, "b waits")
    with holder:
        holder.kill()
        holder.wait()
        assert not waiter.has()
        rank.kill()
    wait_until(lambda: has_ended(rank), "the rank has ended")
    wait_until(waiter.has, "b has the devices")
    waiter.end()


def test_ranks_wait_for_the_lease_of_the_first() -> None:
    joined: list[tuple[str, ...]] = []

    def join() -> None:
        with lease_devices(1, group="a", joins=True) as lease:
            joined.append(lease.devices)

    with lease_devices(1, group="other"):
        thread = threading.Thread(target=join, daemon=True)
        thread.start()
        with lease_devices(1, group="a") as first:
            wait_until(lambda: joined, "the rank has joined")
            assert joined == [first.devices] == [("1",)]
    thread.join()


def test_files_are_for_all_users(tmp_path: Path) -> None:
    with lease_devices(1, group="a"):
        pass
    folder = tmp_path / "locks"
    assert folder.stat().st_mode & 0o7777 == 0o1777
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == dict.fromkeys(
        ("0.device", "1.device", "gate.lock", "queue.lock"), 0o666
    )
