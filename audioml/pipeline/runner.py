"""Run a step: plan, work in local processes, collect; or one of the three for Airflow."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import queue
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, Self

from audioml.errors import AudiomlError, ServiceError, StepError, did_you_mean
from audioml.pipeline.commands import work_by_commands
from audioml.pipeline.context import COMPACTION, Context
from audioml.pipeline.fingerprint import note_start, step_code
from audioml.pipeline.progress import show_progress
from audioml.pipeline.step import Item, Step
from audioml.processes import end_with_parent, one_thread_children
from audioml.store.files import read_json, remove_leftovers, write_text
from audioml.store.locks import hold_lock
from audioml.training.world import find_world

WORKER_LIBRARIES = ("pandas", "pyarrow.parquet")
"""What the modules of mapped steps import only when they work."""
MAX_DEATHS = 8
"""Times that an item may end its process before it counts as failed; each file that crashes its decoder costs one."""


GC_THRESHOLD = 100_000
"""Objects made between two looks for garbage in cycles. Steps make millions of records, none of them in cycles, and
Python's default of 700 costs a fifth of ingest's time."""


def plan_step(ctx: Context, step: Step) -> list[Item]:
    """Plan a step and keep its items, so that `work_item` finds them by id, in any process."""
    gc.set_threshold(GC_THRESHOLD)
    for place in (ctx.path("data"), ctx.state, ctx.state / "started"):
        remove_leftovers(place)
    _forget_compaction(ctx)
    note_start(ctx, step)
    items = step.load().plan(ctx)
    folder = _plan_folder(ctx, step)
    remove_leftovers(folder)
    for item in items:
        write_text(folder / f"{item.id}.json", json.dumps(vars(item)), flush=False)
    wanted = {f"{item.id}.json" for item in items}
    for old in folder.glob("*.json"):
        if old.name not in wanted:
            old.unlink(missing_ok=True)
    return items


def _forget_compaction(ctx: Context) -> None:
    """Forget what a killed compaction meant to record: a step that runs may change it."""
    intent = ctx.state / COMPACTION
    if intent.exists() and read_json(intent)["process"] != os.getpid():
        intent.unlink(missing_ok=True)


def work_item(ctx: Context, step: Step, item_id: str) -> dict[str, Any]:
    """Do one planned item.

    Raises
    ------
    StepError
        When no plan holds an item of this id.
    """
    gc.set_threshold(GC_THRESHOLD)
    path = _plan_folder(ctx, step) / f"{item_id}.json"
    if not path.exists():
        known = [p.stem for p in path.parent.glob("*.json")]
        raise StepError(
            f"{step.name}: no planned item is called {item_id!r}.{did_you_mean(item_id, known)} "
            f"Plan first: audioml run {step.name} --plan"
        )
    return step.load().work(ctx, Item(**read_json(path)))


def work_items(ctx: Context, step: Step, item_ids: Sequence[str]) -> dict[str, Any]:
    """Do planned items one after the other; one that fails does not stop the others, its error is raised after them.

    Raises
    ------
    StepError
        When no plan holds an item of one of the ids.
    """
    summaries, errors = [], []
    for item_id in item_ids:
        try:
            summaries.append(work_item(ctx, step, item_id))
        except (AudiomlError, OSError) as error:
            errors.append(error)
            sys.stderr.write(f"{step.name}: item {item_id}: {error}\n")
    if errors:
        # What may succeed the next time decides: then all are tried again, and those that are done cost nothing.
        raise next((e for e in errors if isinstance(e, OSError | ServiceError)), errors[0])
    return summaries[0] if len(summaries) == 1 else {"items": len(summaries)}


def collect_step(ctx: Context, step: Step) -> dict[str, Any]:
    """Merge, check and report what a step's items made."""
    gc.set_threshold(GC_THRESHOLD)
    return step.load().collect(ctx)


def run_step(ctx: Context, step: Step, jobs: int | None = None) -> dict[str, Any]:
    """Plan, do every item, collect. Many items are spread over `jobs` processes (default: one a core).

    An item that fails does not stop the others; then its error is raised and nothing is collected. An item whose
    process dies (killed, out of memory, a crash in a decoder) is tried again in a new one.
    """
    if not step.mapped:
        return _run(ctx, step, jobs)
    # A second run of the step waits, and then finds it done. (Steps that are not mapped may start themselves again,
    # as training on several devices does.)
    with hold_lock(ctx.state / "locks" / step.name):
        return _run(ctx, step, jobs)


def _run(ctx: Context, step: Step, jobs: int | None) -> dict[str, Any]:
    jobs = jobs or os.cpu_count() or 1
    if step.mapped and jobs > 1:
        _start_server(ctx, step)
    # Of the processes of a training the first one plans and collects; the others end in `work`.
    items = plan_step(ctx, step) if find_world().is_first else step.load().plan(ctx)
    jobs = min(jobs, len(items))
    if step.spawned and len(items) > 1:
        with show_progress() as progress:
            bar = progress.add_task(step.name, total=len(items))
            work_by_commands(ctx, step, items, jobs, lambda: progress.advance(bar))
    elif jobs <= 1:
        with show_progress() as progress:
            for item in progress.track(items, description=step.name):
                step.load().work(ctx, item)
    else:
        _work_in_processes(ctx, step, items, jobs)
    return collect_step(ctx, step)


def _work_in_processes(ctx: Context, step: Step, items: list[Item], jobs: int) -> None:
    failed: dict[str, BaseException] = {}
    with one_thread_children(), show_progress() as progress, _Lanes(ctx, step, jobs) as lanes:
        bar = progress.add_task(step.name, total=len(items))
        for item, error in lanes.work(items):
            if error is not None:
                failed[item.id] = error
            progress.advance(bar)
    if failed:
        item = next(item for item in items if item.id in failed)
        error = failed[item.id]
        more = f" ({len(failed)} of {len(items)} items failed; the others are done)" if len(items) > 1 else ""
        message = f"{step.name}: item {item.id} ({item.label}) failed: {error}{more}"
        raise (StepError(message) if isinstance(error, AudiomlError) else RuntimeError(message)) from error


class _Lanes:
    """Worker processes, each in a pool of its own: when one dies, no other item is lost with it.

    They are forked from a server process that has imported the step once, and has no threads.
    """

    def __init__(self, ctx: Context, step: Step, jobs: int) -> None:
        self.ctx, self.step = ctx, step
        self.processes = multiprocessing.get_context("forkserver")
        self.threads = ThreadPoolExecutor(jobs)
        self.free: queue.SimpleQueue[ProcessPoolExecutor] = queue.SimpleQueue()
        for _ in range(jobs):
            self.free.put(self._open())

    def work(self, items: list[Item]) -> Iterator[tuple[Item, BaseException | None]]:
        """Do all items; yield each with its error, None if it has none, as it ends."""
        futures = {self.threads.submit(self._work, item): item for item in items}
        for future in as_completed(futures):
            yield futures[future], future.exception()

    def _work(self, item: Item) -> None:
        for _ in range(MAX_DEATHS):
            pool = self.free.get()
            try:
                pool.submit(_work_in_child, self.ctx.workspace, self.step.name, item.id).result()
            except (BrokenProcessPool, EOFError, ConnectionError):
                # The last two: the server that workers are forked from has died, and is started again.
                pool.shutdown(wait=False)
                pool = self._open()
            else:
                return
            finally:
                self.free.put(pool)
        raise StepError(
            f"its process died {MAX_DEATHS} times: killed from outside, or out of memory? Run with fewer processes "
            "(audioml run --jobs 1), or pack smaller shards (ingest.shard_mb, ingest.shard_s)"
        )

    def _open(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=self.processes, initializer=end_with_parent)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.threads.shutdown(wait=True, cancel_futures=True)
        while not self.free.empty():
            self.free.get().shutdown()


def _start_server(ctx: Context, step: Step) -> None:
    """Let the server process that workers are forked from import the step's modules while the step is planned."""
    code = [path for path in step_code(ctx.params, step) if path.endswith(".py") and "/_" not in path]
    modules = [f"audioml.{path.removesuffix('.py').replace('/', '.')}" for path in code]
    multiprocessing.set_forkserver_preload(["audioml.pipeline.graph", *modules, *WORKER_LIBRARIES])
    with one_thread_children():
        forkserver.ensure_running()


def _work_in_child(workspace: Path, step_name: str, item_id: str) -> dict[str, Any]:
    from audioml.pipeline.graph import find_step

    return work_item(Context.load(workspace), find_step(step_name), item_id)


def _plan_folder(ctx: Context, step: Step) -> Path:
    folder = ctx.state / "plans" / step.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
