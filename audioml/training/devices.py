"""Lease the GPUs of this node: a training that wants some waits until nobody else has them.

Each device has a file in a folder of the node, and who uses the device holds a shared lock on it: the process that
leased it and the further ranks of its training. So the kernel frees a device when the last of them is gone, however
it died. Devices are taken all at once or not at all, and whoever came first is served first, so nobody waits for
one that waits for him, and a training on all devices gets its turn.

Devices go by their UUIDs: an index means another device in a process that sees only some of them.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from audioml.errors import ParamsError
from audioml.processes import describe
from audioml.store.locks import try_exclusive

NAMES_VARIABLE = "AUDIOML_DEVICES"
"""Names the devices that may be leased, separated by commas, in place of those that CUDA shows."""
FOLDER_VARIABLE = "AUDIOML_DEVICE_LOCKS"
FOLDER = Path("/tmp/audioml-devices")
"""Where the files are unless `AUDIOML_DEVICE_LOCKS` says otherwise. Not the folder of TMPDIR, which differs from
user to user and from job to job, while all of a node must meet here."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
POLL_INTERVAL_S = 0.5
TELL_INTERVAL_S = 60.0
RECORD_BYTES = 1 << 20
"""At most, of what a device's file says of those who have it."""


@dataclass(frozen=True)
class Lease:
    """Devices that a group of processes has."""

    devices: tuple[str, ...]
    """As `CUDA_VISIBLE_DEVICES` takes them."""
    group: str
    """Names the processes that share it."""


_until_exit = ExitStack()
_leased: list[Lease] = []


def lease_until_exit(wanted: int | None, *, group: str, share: bool = False, joins: bool = False) -> Lease:
    """Lease devices for the rest of this process, as CUDA gives their memory back only when it ends.

    The arguments are those of `lease_devices`. A process has one lease: a second call returns the first one.
    """
    if not _leased:
        _leased.append(_until_exit.enter_context(lease_devices(wanted, group=group, share=share, joins=joins)))
    return _leased[0]


@contextmanager
def lease_devices(
    wanted: int | None, *, group: str, share: bool = False, joins: bool = False, console: Console | None = None
) -> Iterator[Lease]:
    """Lease devices for the block, waiting for them first, and show CUDA only those.

    CUDA reads `CUDA_VISIBLE_DEVICES` when it starts, so this has to come before.

    Parameters
    ----------
    wanted
        How many; None takes all that the node has. Where it has none, the lease is empty.
    group
        Names the processes that share the lease.
    share
        True to take devices that others have who would share them too, if too few are free.
    joins
        True to join the lease that another process of the group has, or is about to have.
    console
        Is told what this waits for.

    Raises
    ------
    ParamsError
        When the node has fewer devices than are wanted.
    """
    names = node_devices()
    if not names:
        yield Lease((), group)
        return
    wanted = len(names) if wanted is None else wanted
    if wanted > len(names):
        raise ParamsError(
            f"training.devices: {wanted} are wanted, but this node has {len(names)}: {', '.join(names)}. "
            "Lower training.devices."
        )
    folder = Path(os.environ.get(FOLDER_VARIABLE) or FOLDER)
    with ExitStack() as files:
        node = _Node(folder, names, files)
        if joins:
            taken = node.join(group, wanted)
        else:
            taken = node.wait(group, wanted, share, console or Console(stderr=True, highlight=False))
        with _visible(taken):
            yield Lease(taken, group)


def node_devices() -> tuple[str, ...]:
    """Return the devices that this process may use: UUIDs of GPUs, or what `AUDIOML_DEVICES` names."""
    if named := _split(os.environ.get(NAMES_VARIABLE, "")):
        return named
    gpus = _read_gpus()
    if not gpus or VISIBLE not in os.environ:
        return tuple(gpus.values())
    found = []
    for name in _split(os.environ[VISIBLE]):
        uuids = [uuid for index, uuid in gpus.items() if name == index or uuid.startswith(name)]
        if not uuids and not name.startswith("MIG-"):
            break  # As CUDA does: what follows a name that it does not know counts for nothing.
        found.append(uuids[0] if uuids else name)
    return tuple(found)


def _read_gpus() -> dict[str, str]:
    """Return the UUID of each GPU by its index; none where NVIDIA's driver is not installed."""
    query = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()
    except (FileNotFoundError, subprocess.CalledProcessError):
        return {}
    rows = [_split(line) for line in lines if "," in line]
    return {row[0]: row[1] for row in rows}


class _Node:
    """The files of a node's devices, opened; what is locked through them stays so until they are closed.

    `gate` is held for a moment by whoever looks at the locks or changes them. `queue` is held by the one whose turn
    it is, for as long as that one waits; the kernel serves the others in the order in which they came.
    """

    def __init__(self, folder: Path, names: Sequence[str], files: ExitStack) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(PermissionError):  # Another user's, who did the same.
            folder.chmod(0o1777)
        self.gate, self.queue = (_open_shared(folder / name, files) for name in ("gate.lock", "queue.lock"))
        self.devices = {
            name: _open_shared(folder / (re.sub(r"[^\w-]", "_", name) + ".device"), files) for name in names
        }

    def wait(self, group: str, wanted: int, share: bool, console: Console) -> tuple[str, ...]:
        """Lock devices for a new group, once there are enough."""
        if not try_exclusive(self.queue):
            console.print(f"waits for {wanted} of {len(self.devices)} GPUs, behind others that wait", soft_wrap=True)
            fcntl.flock(self.queue, fcntl.LOCK_EX)
        told_at = -math.inf
        while True:
            with self._at_gate():
                records = {name: self._record(name) for name in self.devices}
                free = [name for name, record in records.items() if record is None]
                shared = [name for name, record in records.items() if share and record and record["share"]]
                taken = (free + shared)[:wanted]
                if len(taken) == wanted:
                    for name in taken:
                        groups = [*(records[name] or {"groups": []})["groups"], group]
                        self._lock(name, {"share": share, "groups": groups, "process": describe(psutil.Process())})
                    break
            if time.monotonic() - told_at >= TELL_INTERVAL_S:
                others = "; ".join(f"{name} is held by process {r['process']}" for name, r in records.items() if r)
                console.print(f"waits for {wanted} of {len(self.devices)} GPUs: {others}", markup=False, soft_wrap=True)
                told_at = time.monotonic()
            time.sleep(POLL_INTERVAL_S)
        fcntl.flock(self.queue, fcntl.LOCK_UN)
        return tuple(taken)

    def join(self, group: str, wanted: int) -> tuple[str, ...]:
        """Lock the devices of a group that another process leased, once it has."""
        while True:
            with self._at_gate():
                records = {name: self._record(name) for name in self.devices}
                taken = [name for name, record in records.items() if record and group in record["groups"]]
                if len(taken) == wanted:
                    for name in taken:
                        fcntl.flock(self.devices[name], fcntl.LOCK_SH)
                    return tuple(taken)
            time.sleep(POLL_INTERVAL_S)

    @contextmanager
    def _at_gate(self) -> Iterator[None]:
        fcntl.flock(self.gate, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self.gate, fcntl.LOCK_UN)

    def _record(self, name: str) -> dict[str, Any] | None:
        """Return who has a device and whether they share it; None if it is free."""
        descriptor = self.devices[name]
        if try_exclusive(descriptor):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            return None
        record: dict[str, Any] = json.loads(os.pread(descriptor, RECORD_BYTES, 0).splitlines()[0])
        return record

    def _lock(self, name: str, record: dict[str, Any]) -> None:
        descriptor = self.devices[name]
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        # In one write, and cut after it: a record that is there is whole, whenever this is killed.
        length = os.pwrite(descriptor, json.dumps(record).encode() + b"\n", 0)
        os.ftruncate(descriptor, length)


def _open_shared(path: Path, files: ExitStack) -> int:
    """Open a file that processes of all users lock and write, making it first if need be; `files` closes it."""
    while True:
        try:
            # Without O_CREAT: the kernel refuses it for another user's file in a folder like /tmp.
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            break
        except FileNotFoundError:
            with suppress(FileExistsError):
                fresh = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
                os.fchmod(fresh, 0o666)
                os.close(fresh)
    files.callback(os.close, descriptor)
    return descriptor


@contextmanager
def _visible(devices: tuple[str, ...]) -> Iterator[None]:
    before = os.environ.get(VISIBLE)
    os.environ[VISIBLE] = ",".join(devices)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VISIBLE, None)
        else:
            os.environ[VISIBLE] = before


def _split(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())
