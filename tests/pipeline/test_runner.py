import subprocess
import sys
from concurrent.futures import Future

import psutil
import pytest

from audioml.errors import StepError
from audioml.params import parse_params
from audioml.pipeline import runner
from audioml.pipeline.context import Context
from audioml.pipeline.step import Item, Step


class Squares:
    """A step that squares numbers into files."""

    def __init__(self, numbers):
        self.numbers = numbers
        self.worked = []

    def plan(self, ctx):
        return [Item(str(n), f"number {n}", {"n": n}) for n in self.numbers if not ctx.path(f"{n}.txt").exists()]

    def work(self, ctx, item):
        self.worked.append(item.id)
        ctx.path(f"{item.id}.txt").write_text(str(item.payload["n"] ** 2))
        return {}

    def collect(self, ctx):
        return {"sum": sum(int(ctx.path(f"{n}.txt").read_text()) for n in self.numbers)}


@pytest.fixture
def squares(monkeypatch):
    module = Squares([1, 2, 3])
    monkeypatch.setattr(Step, "load", lambda self: module)
    return module


@pytest.fixture
def ctx(tmp_path, minimal_params):
    return Context(tmp_path, parse_params(minimal_params))


STEP = Step("squares", "square numbers", (), (), (), ())


def test_a_run_is_plan_work_collect(ctx, squares):
    assert runner.run_step(ctx, STEP, jobs=1) == {"sum": 14}
    assert squares.worked == ["1", "2", "3"]


def test_what_is_done_is_not_done_again(ctx, squares):
    ctx.path("2.txt").write_text("4")
    runner.run_step(ctx, STEP, jobs=1)
    assert squares.worked == ["1", "3"]


def test_the_parts_make_what_the_whole_makes(ctx, squares):
    items = runner.plan_step(ctx, STEP)
    for item in reversed(items):
        runner.work_item(ctx, STEP, item.id)
    assert runner.collect_step(ctx, STEP) == {"sum": 14}


def test_an_item_of_an_old_plan_is_refused(ctx, squares):
    runner.run_step(ctx, STEP, jobs=1)
    assert runner.plan_step(ctx, STEP) == []
    with pytest.raises(StepError, match=r"no planned item is called '2'.*--plan"):
        runner.work_item(ctx, STEP, "2")


POOL = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from audioml.processes import end_with_parent
spawn = multiprocessing.get_context("spawn")
pool = ProcessPoolExecutor(1, mp_context=spawn, initializer=end_with_parent)
print(pool.submit(os.getpid).result(), flush=True)
pool.submit(time.sleep, 600).result()
"""


def test_workers_end_with_a_run_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", POOL], stdout=subprocess.PIPE, text=True) as run:
        worker = psutil.Process(int(run.stdout.readline()))
        assert worker.is_running()
        run.kill()
    assert psutil.wait_procs([worker], timeout=30)[1] == []


@pytest.mark.parametrize("death", [EOFError("unexpected EOF"), ConnectionResetError()])
def test_an_item_outlives_the_server_that_workers_are_forked_from(ctx, squares, monkeypatch, death):
    class Pool:
        """Does the work here, but for the first item: then the server has just died."""

        deaths = [death]  # noqa: RUF012, shared by all pools on purpose

        def submit(self, function, workspace, step_name, item_id):
            if self.deaths:
                raise self.deaths.pop()
            done = Future()
            done.set_result(runner.work_item(ctx, STEP, item_id))
            return done

        def shutdown(self, wait=True):
            """Have nothing to end."""

    monkeypatch.setattr(runner._Lanes, "_open", lambda self: Pool())
    assert runner.run_step(ctx, STEP, jobs=2) == {"sum": 14}
    assert sorted(squares.worked) == ["1", "2", "3"]
