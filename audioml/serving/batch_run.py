"""Predictions for any number of recordings: spread over processes, and taken up again where a killed run ended.

Beside the output stands the folder `OUTPUT.parts` with the list of recordings and the parts that are done. The output
appears whole when all are, and the folder vanishes.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import shutil
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import audioml
from audioml.errors import SourceError, StepError, StoreError
from audioml.pipeline.progress import show_progress
from audioml.processes import end_with_parent, one_thread_children
from audioml.registry.logged_models import fetch_package
from audioml.registry.package import ARTIFACTS
from audioml.registry.workspace import ModelUser
from audioml.serving.batch_columns import count_errors, join_parts, make_schema, read_about
from audioml.serving.batch_inputs import count_inputs, first_difference, is_packed, write_inputs
from audioml.serving.batch_part import INPUTS, Batch, predict_part
from audioml.serving.model import load_version
from audioml.store.files import hash_file, read_json, remove_leftovers, write_json
from audioml.store.locks import hold_lock

RUN, LOCK, NEW = "run.json", "run.lock", "new-inputs.parquet"
MAX_DEATHS = 8
"""Times that a part may end its process before the run gives up."""
BLAME_AFTER = 2
"""Times that a process ends at one recording before that one is left out, with the reason `crash`."""


def predict_batch(
    ctx: ModelUser, source: Path, output: Path, reference: str | None = None, jobs: int | None = None
) -> dict[str, Any]:
    """Predict on the recordings of a folder or a table, and write a Parquet file with a row each.

    A run that was killed goes on where it was when it is started again, and makes the same file. One that is done is
    not done again. A second run with the same output waits for the first.

    Parameters
    ----------
    ctx
        The workspace, or what stands in for it.
    source
        A folder, or a table: see `audioml.serving.batch_inputs.write_inputs`.
    output
        The Parquet file.
    reference
        A model such as ``digits@champion``; None is the champion of the workspace's model.
    jobs
        Processes; None takes one a core.

    Returns
    -------
    dict
        `output`, `model`, `version`, `files`, `errors` (recordings that could not be read), `resumed` (recordings that
        an earlier run had done).

    Raises
    ------
    SourceError
        When there are no recordings, or the output is no name for a file.
    RegistryError, ServiceError
        As `audioml.serving.model.load_model`.
    StoreError
        When an earlier run of this output was of another model or of other recordings; the message says what differs.
    StepError
        When processes end again and again.
    """
    if output.is_dir() or output.suffix != ".parquet":
        raise SourceError(
            f"--output is {output}, which is no name for a Parquet file. Write such as predictions.parquet."
        )
    if not source.exists():
        raise SourceError(f"There is no {source}. Give a folder of recordings, or a table with a column 'path'.")
    source, folder = source.resolve(), output.with_name(f"{output.name}.parts")
    predictor, version = load_version(ctx, reference)
    package = fetch_package(ctx.state, version.uri, version.package_digest) / ARTIFACTS
    with _hold(folder):
        write_inputs(source, folder / NEW)
        about = {
            "model": version.name,
            "version": version.version,
            "package": version.package_digest,
            "audioml": audioml.__version__,
            "inputs": hash_file(folder / NEW),
        }
        n_files = resumed = sum(count_inputs(folder / NEW))
        if output.exists():
            _check_same(read_about(output), about, output, folder)
        else:
            _take_up(about, output, folder)
            schema = make_schema(predictor, is_packed(folder / INPUTS), about)
            batch = Batch(source, folder, package, version.name, version.version, schema)
            resumed = _predict_parts(batch, jobs or len(os.sched_getaffinity(0)))
            parts = [batch.path_of(part) for part in range(len(count_inputs(folder / INPUTS)))]
            join_parts(output, parts, schema)
        shutil.rmtree(folder)
    return {
        "output": str(output),
        "model": version.name,
        "version": version.version,
        "files": n_files,
        "errors": count_errors(output),
        "resumed": resumed,
    }


@contextmanager
def _hold(folder: Path) -> Iterator[None]:
    """Have the folder of parts alone for the block; it stays if there is a run to take up again."""
    with hold_lock(folder / LOCK):
        remove_leftovers(folder)
        for note in folder.glob("*.note"):
            note.unlink()
        try:
            yield
        finally:
            (folder / NEW).unlink(missing_ok=True)
            if not (folder / RUN).exists():
                shutil.rmtree(folder, ignore_errors=True)


def _take_up(about: dict[str, Any], output: Path, folder: Path) -> None:
    """Keep what this run is of, or check that it is what the one before was of."""
    if (folder / RUN).exists():
        _check_same(read_json(folder / RUN), about, output, folder)
    (folder / NEW).replace(folder / INPUTS)
    write_json(folder / RUN, about)


def _check_same(old: dict[str, Any], new: dict[str, Any], output: Path, folder: Path) -> None:
    differs = []
    if (old["model"], old["version"], old["package"]) != (new["model"], new["version"], new["package"]):
        differs.append(
            f"the model is {new['model']} version {new['version']}, and was {old['model']} version {old['version']} "
            f"(to go on with that one: --model {old['model']}/{old['version']})"
        )
    if old["audioml"] != new["audioml"]:
        differs.append(f"audioml is {new['audioml']}, and was {old['audioml']}")
    if old["inputs"] != new["inputs"]:
        first = first_difference(folder / INPUTS, folder / NEW) if (folder / INPUTS).exists() else ""
        differs.append(
            "the recordings are not those of before" + (f"; the first that differs is {first}" if first else "")
        )
    if not differs:
        return
    what, where = ("predictions", output) if output.exists() else ("a run that has not ended", folder)
    raise StoreError(
        f"{where} holds {what} of something else: {'; '.join(differs)}. To begin anew, remove {where}, or give another "
        "--output."
    )


def _predict_parts(batch: Batch, jobs: int) -> int:
    """Predict all parts that are not done, and return how many recordings were."""
    sizes = count_inputs(batch.folder / INPUTS)
    left = [part for part in range(len(sizes)) if not batch.path_of(part).exists()]
    resumed = sum(sizes) - sum(sizes[part] for part in left)
    with show_progress() as progress:
        bar = progress.add_task("predict", total=sum(sizes), completed=resumed)
        if min(jobs, len(left)) <= 1:
            for part in left:
                progress.advance(bar, predict_part(batch, part))
        else:
            for n_files in _in_processes(batch, left, min(jobs, len(left))):
                progress.advance(bar, n_files)
    return resumed


def _in_processes(batch: Batch, parts: list[int], jobs: int) -> Iterator[int]:
    """Predict parts in processes, each in a pool of its own, so that one that dies takes no other part with it."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["audioml.inference.predictor", "audioml.serving.batch_part"])
    pools: queue.SimpleQueue[ProcessPoolExecutor] = queue.SimpleQueue()

    def open_pool() -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, mp_context=processes, initializer=end_with_parent)

    def work(part: int) -> int:
        deaths: Counter[int] = Counter()
        for attempt in range(MAX_DEATHS):
            pool = pools.get()
            blamed = [place for place, n in deaths.items() if n >= BLAME_AFTER]
            try:
                return pool.submit(predict_part, batch, part, blamed, attempt > 0).result()
            except (BrokenProcessPool, EOFError, ConnectionError):
                pool.shutdown(wait=False)
                pool = open_pool()
                if batch.note_of(part).exists():
                    deaths[int(batch.note_of(part).read_text() or 0)] += 1
            finally:
                pools.put(pool)
        raise StepError(
            f"Part {part} of the batch ended its process {MAX_DEATHS} times: killed from outside, or out of memory? "
            "Start it again, with --jobs 1 to use less memory: what is done is kept."
        )

    with one_thread_children(), ThreadPoolExecutor(jobs) as threads:
        for _ in range(jobs):
            pools.put(open_pool())
        try:
            for future in as_completed([threads.submit(work, part) for part in parts]):
                yield future.result()
        finally:
            threads.shutdown(wait=True, cancel_futures=True)
            while not pools.empty():
                pools.get().shutdown()
