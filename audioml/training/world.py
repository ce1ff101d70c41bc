"""The processes of one training: which of them this is, and what they agree on before they start.

Lightning starts the further processes of a host itself. Over several hosts torchrun starts all of them; then the
first one decides, and tells the others through torchrun's store.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import uuid4

from audioml.errors import ParamsError, StepError
from audioml.params import TrainingParams
from audioml.processes import die_with

STARTER_VARIABLE = "AUDIOML_TRAINING_STARTER"
"""Pid of the process that starts the others of a host, in their environment."""
MEETING_TIMEOUT = timedelta(days=7)
"""A host may wait for its GPUs that long while the others wait for it."""
GROUP_TIMEOUT = timedelta(minutes=30)
"""Of what the processes do together once they have met; Lightning's."""
LOOK_AGAIN = timedelta(seconds=1)
"""How long a process waits for an answer of the first one before it looks whether that is still the first one."""


@dataclass(frozen=True)
class World:
    """The processes of a training as one of them sees them."""

    rank: int = 0
    """Of this process, over all hosts."""
    size: int = 1
    """Processes on all hosts. 1 before Lightning has started those of a single host."""
    local_rank: int = 0
    """Of this process, on its host."""
    local_size: int = 1
    n_nodes: int = 1
    attempt: str | None = None
    """What torchrun calls this start of the processes of this host; None where torchrun started none."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that plans, records and writes."""
        return self.rank == 0

    @property
    def device_group(self) -> str:
        """Names the processes that share this host's devices, the same in each of them."""
        if self.attempt is not None:
            return f"{socket.gethostname()} {os.getppid()} {self.attempt}"
        return f"{socket.gethostname()} {os.getppid() if self.local_rank else os.getpid()}"

    def devices_of(self, training: TrainingParams) -> int | None:
        """Return how many devices this host's processes use; None for all."""
        if self.attempt is not None:
            return self.local_size
        return None if training.devices in ("auto", -1) else int(training.devices)

    def check(self, training: TrainingParams) -> None:
        """Check that as many processes were started as the params say.

        Raises
        ------
        ParamsError
            With the command that starts as many.
        """
        nodes, devices = training.num_nodes, self.devices_of(training)
        command = torchrun_command(nodes, training.devices)
        if self.attempt is None:
            if nodes > 1:
                raise ParamsError(
                    f"training.num_nodes is {nodes}, so one command on each of {nodes} hosts starts the training, at "
                    f"about the same time, in the same workspace; HOST is the address of one of them:\n  {command}\n"
                    "Then, on one: audioml record train"
                )
            return
        wrong_devices = isinstance(training.devices, int) and training.devices not in (-1, devices)
        if self.n_nodes != nodes or wrong_devices or self.size != self.n_nodes * self.local_size:
            raise ParamsError(
                f"training.num_nodes is {nodes} and training.devices {training.devices}, but torchrun started "
                f"{self.size} processes on {self.n_nodes} hosts, {self.local_size} of them on {socket.gethostname()}. "
                f"Change these params, or run on each host:\n  {command}"
            )

    def end_with_starter(self) -> None:
        """Let a process that was started by another of this training, or by torchrun, end when that one dies.

        A process whose starter was killed would hold its GPU while it waits for the others, for half an hour.
        """
        if self.attempt is not None:
            die_with(os.getppid())()
        elif self.local_rank:
            die_with(int(os.environ.get(STARTER_VARIABLE, os.getppid())))()
        else:
            os.environ[STARTER_VARIABLE] = str(os.getpid())

    def first_decides(self, decide: Callable[[], bool]) -> bool:
        """Return what `decide` says in the first process; it is not called in any other.

        Lightning starts further processes only where the answer was no, so to them it is no.
        """
        if self.is_first:
            decision = decide()
            if self._store is not None:
                self._store.set("decision", json.dumps(decision))
            return decision
        return bool(json.loads(self._store.get("decision"))) if self._store is not None else False

    def meet(self, found: Mapping[str, Any]) -> None:
        """Wait until the processes of all hosts have come here, and compare what they found.

        Raises
        ------
        StepError
            When they found different things, in every process.
        """
        if self._store is None:
            return
        self._store.set(f"found {self.rank}", json.dumps([socket.gethostname(), found]))
        if self.is_first:
            reports = [json.loads(self._store.get(f"found {rank}")) for rank in range(self.size)]
            self._store.set("objection", next(filter(None, (_compare(reports[0], r) for r in reports)), ""))
        if objection := self._store.get("objection").decode():
            raise StepError(objection)

    def connect(self, accelerator: str) -> None:
        """Open the process group of the processes of all hosts, once they have met and leased their GPUs.

        Lightning uses the one that it finds. Its own would be opened in torchrun's store as it is, where gloo and NCCL
        read the addresses of an earlier attempt's processes (pytorch#135712).
        """
        if self._store is None:
            return
        import torch

        cuda = accelerator != "cpu" and torch.cuda.is_available()
        self._store.set_timeout(GROUP_TIMEOUT)
        torch.distributed.init_process_group(
            "nccl" if cuda else "gloo",
            store=self._store,
            rank=self.rank,
            world_size=self.size,
            timeout=GROUP_TIMEOUT,
            device_id=torch.device("cuda", self.local_rank) if cuda else None,
        )
        if cuda:
            atexit.register(torch.distributed.destroy_process_group)

    @property
    def _store(self) -> Any:
        """What only the processes of this attempt share, where torchrun started more than one process."""
        return None if self.attempt is None or self.size == 1 else _open_store(self)


def find_world(environment: Mapping[str, str] = os.environ) -> World:
    """Return what the environment says of the processes of this training, as Lightning and torchrun set it."""
    if "LOCAL_RANK" not in environment:
        return World()
    local_rank = int(environment["LOCAL_RANK"])
    if "TORCHELASTIC_RUN_ID" not in environment:
        size = int(environment.get("WORLD_SIZE", 1))
        return World(rank=local_rank, size=size, local_rank=local_rank, local_size=size)
    return World(
        rank=int(environment["RANK"]),
        size=int(environment["WORLD_SIZE"]),
        local_rank=local_rank,
        local_size=int(environment["LOCAL_WORLD_SIZE"]),
        n_nodes=int(environment["GROUP_WORLD_SIZE"]),
        attempt=f"{environment['TORCHELASTIC_RUN_ID']} {environment['TORCHELASTIC_RESTART_COUNT']}",
    )


def torchrun_command(n_nodes: int, devices: int | str) -> str:
    """Return the command that starts the training on one of its hosts."""
    per_node = devices if isinstance(devices, int) and devices > 0 else "GPUS"
    return (
        f"torchrun --nnodes {n_nodes} --nproc-per-node {per_node} --max-restarts 3 --rdzv-backend c10d "
        "--rdzv-endpoint HOST:29500 --no-python audioml run train"
    )


@cache
def _open_store(world: World) -> Any:
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, _, _ = next(rendezvous("env://", world.rank, world.size))
    store.set_timeout(MEETING_TIMEOUT)
    store = PrefixStore("audioml", store)
    return PrefixStore(_name_attempt(store, world.rank, world.size), store)


def _name_attempt(store: Any, rank: int, size: int) -> str:
    """Return a name that the processes of this attempt agree on, and that no other attempt has or had.

    torchrun keeps its store over restarts, with all that was written there, and counts restarts on each host by itself.
    So the first process makes the name up, and gives it to those who greet it under this name, each by a name of its
    own. The processes of earlier attempts are gone by then: only one of this attempt can greet it so, and only
    its first process can answer. Who comes before the first greets one of an earlier attempt, in vain, and looks again.
    """
    from torch.distributed import DistStoreError

    mine = uuid4().hex
    if rank == 0:
        store.set("first", mine)
        for other in range(1, size):
            store.set(store.get(f"{mine} greeted by {other}").decode(), mine)
        return mine
    give_up_s = time.monotonic() + MEETING_TIMEOUT.total_seconds()
    while True:
        store.set(f"{store.get('first').decode()} greeted by {rank}", mine)
        try:
            store.wait([mine], LOOK_AGAIN)
        except DistStoreError:
            if time.monotonic() > give_up_s:
                raise
        else:
            return str(store.get(mine).decode())


def _compare(first: list[Any], other: list[Any]) -> str:
    """Return what the two found differently, as one sentence; empty if nothing."""
    (here, found), (there, also) = first, other
    different = [name for name in found if found[name] != also[name]]
    if not different:
        return ""
    return (
        f"{here} and {there} do not train the same: {', '.join(different)} differ. All hosts need the same workspace, "
        "on storage they share, and the same version of audioml."
    )
