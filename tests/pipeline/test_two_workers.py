"""Two workers on one item, and two runs of one step, do no harm and no work twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
import yaml

from audioml.params import FILE_NAME
from audioml.pipeline.context import Context
from audioml.pipeline.examination import Examiner
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import plan_step, run_step, work_item
from audioml.pipeline.steps import featurize, ingest

GRACE_S = 0.3
"""How long a worker that should wait is given to show that it does not."""


@pytest.fixture
def ctx(recordings_space):
    """A workspace of 12 recordings that commands find too; ingest makes several items of them."""
    raw = recordings_space.params.model_dump(by_alias=True, mode="json")
    raw["ingest"]["shard_mb"] = 0.1
    recordings_space.path(FILE_NAME).write_text(yaml.safe_dump(raw))
    return Context.load(recordings_space.workspace)


def prepare(ctx, name):
    """Do what comes before a step."""
    if name == "featurize":
        run_step(ctx, find_step("ingest"), jobs=1)


def outputs(ctx):
    folders = [ctx.path(folder) for folder in ("data", "features")]
    return {p.relative_to(ctx.workspace): p.read_bytes() for f in folders for p in f.rglob("*") if p.is_file()}


def undisturbed(ctx, name):
    """Outputs of the step in a copy of the workspace where nobody else works."""
    copy = shutil.copytree(ctx.workspace, ctx.workspace.with_name("undisturbed"), symlinks=True)
    run_step(Context.load(copy), find_step(name), jobs=1)
    return outputs(Context.load(copy))


def leftovers(ctx):
    return [path for path in ctx.workspace.rglob("*.tmp") if ".dvc" not in path.parts]


class Gate:
    """Where each that begins the work of an item says so, and waits until it may go on."""

    def __init__(self):
        self.begun, self.again, self.go, self.count = Event(), Event(), Event(), 0
        self.go.set()

    def close(self):
        self.count = 0
        for event in (self.begun, self.again, self.go):
            event.clear()

    def pass_through(self):
        self.count += 1
        (self.again if self.begun.is_set() else self.begun).set()
        assert self.go.wait(60)


@pytest.fixture
def gate(monkeypatch):
    """An open gate before the work of every item of ingest and featurize in this process."""
    gate = Gate()
    write, examine = featurize.ShardWriter.__enter__, Examiner.examine

    def enter(self):
        writer = write(self)
        gate.pass_through()
        return writer

    def look(self, records):
        gate.pass_through()
        return examine(self, records)

    monkeypatch.setattr(featurize.ShardWriter, "__enter__", enter)
    monkeypatch.setattr(Examiner, "examine", look)
    return gate


def run_both(gate, function):
    """Call a function in two threads, the second while the first is at work, and return what both return."""
    with ThreadPoolExecutor(2) as threads:
        try:
            one = threads.submit(function)
            assert gate.begun.wait(60)
            two = threads.submit(function)
            assert not gate.again.wait(GRACE_S), "the second began the same work"
        finally:
            gate.go.set()
        return one.result(), two.result()


@pytest.mark.parametrize("name", ["ingest", "featurize"])
def test_of_two_workers_on_one_item_the_second_waits_and_finds_it_done(ctx, gate, name):
    prepare(ctx, name)
    expected = undisturbed(ctx, name)
    first = plan_step(ctx, find_step(name))[0]
    gate.close()
    one, two = run_both(gate, lambda: work_item(ctx, find_step(name), first.id))
    assert one == two
    assert gate.count == 1
    run_step(ctx, find_step(name), jobs=1)
    assert outputs(ctx) == expected
    assert leftovers(ctx) == []


@pytest.mark.parametrize(("name", "module"), [("ingest", ingest), ("featurize", featurize)])
def test_a_second_run_of_a_step_waits_and_finds_nothing_to_do(ctx, gate, name, module, monkeypatch):
    prepare(ctx, name)
    expected = undisturbed(ctx, name)
    gate.close()
    plan, planned = module.plan, []

    def note(ctx):
        if planned:
            gate.again.set()
        items = plan(ctx)
        planned.append(len(items))
        return items

    monkeypatch.setattr(module, "plan", note)
    one, two = run_both(gate, lambda: run_step(ctx, find_step(name), jobs=1))
    assert one == two
    assert planned[0] == gate.count > 1
    assert planned[1:] == [0]
    assert outputs(ctx) == expected
    assert leftovers(ctx) == []


def start(ctx, *arguments):
    command = [sys.executable, "-m", "audioml", "run", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        command, cwd=ctx.workspace, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def end(*processes):
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), said


@pytest.mark.parametrize("name", ["ingest", "featurize"])
def test_two_commands_at_once_make_what_one_makes(ctx, name):
    prepare(ctx, name)
    expected = undisturbed(ctx, name)
    end(start(ctx, name, "--jobs", "1"), start(ctx, name, "--jobs", "1"))
    assert outputs(ctx) == expected
    assert leftovers(ctx) == []


def test_two_commands_on_one_item_make_its_shard(ctx):
    prepare(ctx, "featurize")
    expected = undisturbed(ctx, "featurize")
    first = plan_step(ctx, find_step("featurize"))[0]
    end(*(start(ctx, "featurize", "--item", first.id) for _ in range(2)))
    (shard,) = ctx.path("features").glob("*.arrow")
    assert shard.read_bytes() == expected[shard.relative_to(ctx.workspace)]
    assert leftovers(ctx) == []
