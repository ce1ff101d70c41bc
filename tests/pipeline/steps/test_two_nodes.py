"""Training over two hosts: network namespaces with a cable between them, gloo, torchrun's rendezvous."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from audioml.pipeline.context import Context
from audioml.store.files import read_json
from audioml.store.manifest import SPLITS, read_splits

from . import _train_process
from ._train_space import make_workspace

pytestmark = pytest.mark.slow
TORCHRUN = Path(sys.executable).with_name("torchrun")
ADDRESSES = ("10.213.77.1", "10.213.77.2")
EPOCHS, CLIPS_PER_STEP, KILLED_STEP = 2, 8, 4


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Names of two network namespaces, joined by a pair of virtual Ethernet devices called `cable`."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("making network namespaces needs root and the program ip (iproute2)")
    names = [f"audioml-{os.getpid()}-{i}" for i in (0, 1)]
    with ExitStack() as undo:
        try:
            for name in names:
                ip("netns", "add", name)
                undo.callback(ip, "netns", "delete", name)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"this machine lets nobody make network namespaces: {error.stderr.decode().strip()}")
        ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "address", "add", f"{address}/24", "dev", "cable")
            for device in ("lo", "cable"):
                ip("-n", name, "link", "set", device, "up")
        yield names


def start_host(name: str, address: str, script: list[str]) -> subprocess.Popen[str]:
    rendezvous = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{ADDRESSES[0]}:29500"]
    # It is known by its address here, not by its name.
    rendezvous += ["--rdzv-conf", f"is_host={int(address == ADDRESSES[0])}", "--local-addr", address]
    torchrun = [str(TORCHRUN), "--nnodes", "2", "--nproc-per-node", "1", "--max-restarts", "1", *rendezvous]
    return subprocess.Popen(
        ["ip", "netns", "exec", name, *torchrun, "--no-python", *script],
        env={**os.environ, "GLOO_SOCKET_IFNAME": "cable"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_on(hosts: list[str], script: list[str]) -> list[str]:
    """Run a script on all hosts at once; return what each printed."""
    with ExitStack() as started:
        processes = [start_host(*host, script) for host in zip(hosts, ADDRESSES, strict=True)]
        for process in processes:
            started.callback(process.kill)
        outputs = [process.communicate()[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    return outputs


def read_history(ctx: Context) -> list[dict[str, Any]]:
    """Return the epochs of the training that ended last, without their durations."""
    (result,) = (ctx.state / "training").glob("*/result.json")
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_json(result)["run"]["history"]]


def read_notes(ctx: Context) -> list[dict[str, Any]]:
    files = sorted(ctx.workspace.glob("rank*.jsonl"))
    return [{"file": file.stem, **json.loads(line)} for file in files for line in file.read_text().splitlines()]


def test_two_hosts_train_as_two_processes_of_one_do_though_one_is_killed(tmp_path: Path, hosts: list[str]) -> None:
    sizes = {"max_epochs": EPOCHS, "checkpoint_every_steps": 1}
    spread = make_workspace(tmp_path / "hosts", **sizes, num_nodes=2, batch_size=CLIPS_PER_STEP // 2)
    script = [sys.executable, _train_process.__file__]
    run_on(hosts, [*script, str(spread.workspace), "--kill-second-at", str(KILLED_STEP)])

    notes = read_notes(spread)
    assert {note["step"] for note in notes if note["attempt"] == 0} <= set(range(KILLED_STEP + 1))
    assert min(note["step"] for note in notes if note["attempt"] == 1) == KILLED_STEP
    # What a killed process had begun is done again by the next one.
    done = {(note["file"], note["step"]): note for note in notes}.values()
    (n_clips,) = {sum(len(n["clips"]) for n in done if n["epoch"] == epoch) for epoch in range(EPOCHS)}
    assert n_clips == (read_splits(spread.path(SPLITS))["split"] == "train").sum()
    for epoch in range(EPOCHS):
        assert sorted(clip for n in done if n["epoch"] == epoch for clip in n["clips"]) == list(range(n_clips))
    assert {note["file"] for note in done} == {"rank0", "rank1"}
    assert spread.path("collected.txt").read_text() == "0"

    # Two processes of one host that nothing stops: the same, but for the order in which sums of the ranks are rounded.
    local = make_workspace(tmp_path / "local", **sizes, devices=2, batch_size=CLIPS_PER_STEP // 2)
    subprocess.run([*script, str(local.workspace)], check=True, capture_output=True)
    undisturbed, resumed = read_history(local), read_history(spread)
    assert len(resumed) == EPOCHS
    for ours, theirs in zip(resumed, undisturbed, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)
