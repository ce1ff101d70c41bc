from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from torch.distributed import DistStoreError

import audioml.training.world as world_module
from audioml.errors import ParamsError, StepError
from audioml.params import TrainingParams
from audioml.training.world import World, find_world


def elastic(rank: int, n_nodes: int = 2, per_node: int = 2) -> dict[str, str]:
    """The environment that torchrun gives to a process."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(n_nodes * per_node),
        "LOCAL_RANK": str(rank % per_node),
        "LOCAL_WORLD_SIZE": str(per_node),
        "GROUP_WORLD_SIZE": str(n_nodes),
        "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_RESTART_COUNT": "0",
    }


def test_one_process_is_the_first_whatever_a_cluster_says_of_its_pods() -> None:
    assert find_world({"RANK": "3", "WORLD_SIZE": "4"}) == World()
    assert World().is_first


def test_processes_of_lightning_and_of_torchrun() -> None:
    assert find_world({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}) == World(rank=1, size=2, local_rank=1, local_size=2)
    worlds = [find_world(elastic(rank)) for rank in range(4)]
    assert [world.is_first for world in worlds] == [True, False, False, False]
    assert [world.local_rank for world in worlds] == [0, 1, 0, 1]
    assert {(world.size, world.local_size, world.n_nodes) for world in worlds} == {(4, 2, 2)}


def test_several_hosts_without_torchrun_name_the_command() -> None:
    with pytest.raises(ParamsError, match=r"torchrun --nnodes 3 --nproc-per-node 2 .* audioml run train\n.*record"):
        World().check(TrainingParams(num_nodes=3, devices=2))


@pytest.mark.parametrize(
    ("params", "fits"),
    [
        ({"num_nodes": 2}, True),
        ({"num_nodes": 2, "devices": 2}, True),
        ({"num_nodes": 2, "devices": -1}, True),
        ({"num_nodes": 2, "devices": 1}, False),
        ({"num_nodes": 4, "devices": 1}, False),
        ({}, False),
    ],
)
def test_torchrun_must_start_what_params_say(params: dict[str, Any], fits: bool) -> None:
    world, training = find_world(elastic(0)), TrainingParams(**params)
    if fits:
        world.check(training)
        assert world.devices_of(training) == 2
        return
    with pytest.raises(ParamsError, match=r"torchrun started 4 processes on 2 hosts, 2 of them on"):
        world.check(training)


def test_hosts_with_different_numbers_of_processes() -> None:
    with pytest.raises(ParamsError, match="torchrun started 3 processes on 2 hosts"):
        find_world({**elastic(0), "WORLD_SIZE": "3"}).check(TrainingParams(num_nodes=2))


@pytest.mark.parametrize(("devices", "wanted"), [("auto", None), (-1, None), (2, 2)])
def test_devices_that_one_process_leases(devices: Any, wanted: int | None) -> None:
    assert World().devices_of(TrainingParams(devices=devices)) == wanted


@pytest.fixture
def torchrun_store(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The store that torchrun keeps over restarts, for all processes to find in the environment."""
    from torch.distributed import TCPStore

    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    found = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return store


def agree(found: Mapping[int, str], size: int, decision: bool = False) -> dict[int, tuple[bool, str]]:
    """Let an attempt's processes of these ranks agree, each in a thread; return what each of them learned."""

    start = {"TORCHELASTIC_RUN_ID": uuid4().hex}

    def take_part(rank: int) -> tuple[bool, str]:
        world = find_world(elastic(rank, n_nodes=size, per_node=1) | start)
        decided = world.first_decides(lambda: decision)
        try:
            world.meet({"the last checkpoint": found[rank], "code": 1})
        except StepError as error:
            return decided, str(error)
        return decided, ""

    with ThreadPoolExecutor(len(found)) as threads:
        answers = {rank: threads.submit(take_part, rank) for rank in found}
        return {rank: answer.result() for rank, answer in answers.items()}


def test_all_learn_what_the_first_decides_and_that_a_host_sees_another_checkpoint(torchrun_store: Any) -> None:
    answers = agree({0: "a", 1: "b"}, 2, decision=True).values()
    assert [decision for decision, _ in answers] == [True, True]
    for _, message in answers:
        assert "do not train the same: the last checkpoint differ." in message
        assert "storage they share" in message


@pytest.mark.parametrize("early", [0, 1])
def test_who_comes_early_waits_though_the_store_has_the_words_of_an_attempt_before(
    early: int, torchrun_store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert agree({0: "none", 1: "none"}, 2) == {0: (False, ""), 1: (False, "")}
    with monkeypatch.context() as patch:
        patch.setattr(world_module, "MEETING_TIMEOUT", timedelta(seconds=1))
        with pytest.raises(DistStoreError):
            agree({early: "a"}, 2)
    assert agree({0: "a", 1: "a"}, 2) == {0: (False, ""), 1: (False, "")}


def test_attempts_in_any_order_of_arrival(torchrun_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world_module, "LOOK_AGAIN", timedelta(milliseconds=20))
    rng = random.Random(0)
    for attempt in range(10):
        order = rng.sample(range(3), 3)
        odd, decision = rng.choice([None, *order]), rng.random() < 0.5
        found = {rank: f"{attempt} odd" if rank == odd else f"{attempt}" for rank in order}
        for decided, message in agree(found, 3, decision).values():
            assert decided == decision
            assert bool(message) == (odd is not None)


CONNECTIONS = """
import torch
from audioml.training import world

here = world.find_world()
for _ in range(2):
    here.connect("cpu")
    ranks = torch.tensor(here.rank)
    torch.distributed.all_reduce(ranks)
    assert ranks == 0 + 1
    torch.distributed.destroy_process_group()
    world._open_store.cache_clear()
"""


def test_no_attempt_finds_the_addresses_of_another(torchrun_store: Any) -> None:
    command = [sys.executable, "-c", CONNECTIONS]
    started = [subprocess.Popen(command, env={**os.environ, **elastic(rank, per_node=1)}) for rank in range(2)]
    assert [process.wait() for process in started] == [0, 0]
    addresses = [key for key in torchrun_store.list_keys() if "/cpu/" in key]
    assert len({key.split("/")[1] for key in addresses}) == 2
    assert len(addresses) == 2 * 2
