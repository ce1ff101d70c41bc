"""Run a step: plan, work in local processes, collect; or one of the three for Airflow."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing import connection
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from audioml.errors import AudiomlError, StepError, did_you_mean
from audioml.pipeline.context import Context
from audioml.pipeline.fingerprint import note_start
from audioml.pipeline.step import Item, Step
from audioml.store.files import read_json, remove_leftovers, write_json

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Worker processes get one thread each: threads in libraries times processes stall."""


def plan_step(ctx: Context, step: Step) -> list[Item]:
    """Plan a step and keep its items, so that `work_item` finds them by id, in any process."""
    note_start(ctx, step)
    items = step.load().plan(ctx)
    folder = _plan_folder(ctx, step)
    remove_leftovers(folder)
    for item in items:
        write_json(folder / f"{item.id}.json", asdict(item))
    wanted = {f"{item.id}.json" for item in items}
    for old in folder.glob("*.json"):
        if old.name not in wanted:
            old.unlink(missing_ok=True)
    return items


def work_item(ctx: Context, step: Step, item_id: str) -> dict[str, Any]:
    """Do one planned item.

    Raises
    ------
    StepError
        When no plan holds an item of this id.
    """
    path = _plan_folder(ctx, step) / f"{item_id}.json"
    if not path.exists():
        known = [p.stem for p in path.parent.glob("*.json")]
        raise StepError(
            f"{step.name}: no planned item is called {item_id!r}.{did_you_mean(item_id, known)} "
            f"Plan first: audioml run {step.name} --plan"
        )
    return step.load().work(ctx, Item(**read_json(path)))


def collect_step(ctx: Context, step: Step) -> dict[str, Any]:
    """Merge, check and report what a step's items made."""
    return step.load().collect(ctx)


def run_step(ctx: Context, step: Step, jobs: int | None = None) -> dict[str, Any]:
    """Plan, do every item, collect. Many items are spread over `jobs` processes (default: one a core).

    An item that fails does not stop the others; then its error is raised and nothing is collected.
    """
    items = plan_step(ctx, step)
    jobs = min(jobs or os.cpu_count() or 1, len(items))
    if jobs <= 1:
        for item in items:
            step.load().work(ctx, item)
    else:
        _work_in_processes(ctx, step, items, jobs)
    return collect_step(ctx, step)


def _work_in_processes(ctx: Context, step: Step, items: list[Item], jobs: int) -> None:
    failed: list[tuple[Item, BaseException]] = []
    with _one_thread_children(), _progress() as progress:
        bar = progress.add_task(step.name, total=len(items))
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_end_with_parent) as pool:
            futures = {pool.submit(_work_in_child, ctx.workspace, step.name, item.id): item for item in items}
            for future in as_completed(futures):
                if error := future.exception():
                    failed.append((futures[future], error))
                progress.advance(bar)
    if failed:
        item, error = failed[0]
        more = f" ({len(failed)} of {len(items)} items failed; the others are done)" if len(items) > 1 else ""
        message = f"{step.name}: item {item.id} ({item.label}) failed: {error}{more}"
        raise (StepError(message) if isinstance(error, AudiomlError) else RuntimeError(message)) from error


def _end_with_parent() -> None:
    """Let a worker process end when its parent does, however it dies: workers of a killed run must not go on."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _work_in_child(workspace: Path, step_name: str, item_id: str) -> dict[str, Any]:
    from audioml.pipeline.graph import find_step

    return work_item(Context.load(workspace), find_step(step_name), item_id)


def _plan_folder(ctx: Context, step: Step) -> Path:
    folder = ctx.state / "plans" / step.name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _progress() -> Progress:
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


@contextmanager
def _one_thread_children() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(ONE_THREAD)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
