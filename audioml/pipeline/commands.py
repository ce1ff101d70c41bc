"""Work by commands of audioml, each in a process of its own: trainings beside each other on one machine."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from audioml.errors import SERVICE_ERROR, ParamsError, ServiceError, StepError
from audioml.pipeline.context import Context
from audioml.pipeline.step import Item, Step
from audioml.processes import die_with
from audioml.training.world import find_world

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
TAIL_LINES = 40
"""Of what a command wrote, kept to say what went wrong."""


@dataclass(frozen=True)
class Command:
    """A command of audioml for one piece of work."""

    name: str
    """Stands before each line that it writes."""
    label: str
    arguments: tuple[str, ...]
    """After `audioml`; the workspace is added."""


def work_by_commands(
    ctx: Context, step: Step, items: Sequence[Item], jobs: int, on_done: Callable[[], object] = lambda: None
) -> None:
    """Do planned items by commands, as `run_commands`.

    Raises
    ------
    ParamsError
        When torchrun started this process: its processes share one training.
    StepError, ServiceError
        When an item failed, after all are done.
    """
    from audioml.registry.tracking import tracking

    if find_world().attempt is not None:
        raise ParamsError(
            f"torchrun starts one training, but {step.name} has {len(items)} items. Plan with: audioml run {step.name} "
            f"--plan; let torchrun start `audioml run {step.name} --item ITEM` for each; "
            f"then: audioml run {step.name} --collect"
        )
    commands = [Command(i.id, f"item {i.id} ({i.label})", ("run", step.name, "--item", i.id)) for i in items]
    # One MLflow server for all, rather than one for each.
    with tracking(ctx):
        run_commands(ctx, step.name, commands, jobs, on_done)


def run_commands(
    ctx: Context, what: str, commands: Sequence[Command], jobs: int, on_done: Callable[[], object] = lambda: None
) -> None:
    """Run commands, `jobs` at a time, which share the cores; their output is told with their names.

    One that fails does not stop the others. Commands end with this process, however it dies.

    Raises
    ------
    StepError, ServiceError
        When one failed, after all are done.
    """
    threads = dict.fromkeys(THREADS, str(max(1, (os.cpu_count() or 1) // jobs)))
    environment = {**os.environ, **threads}
    failed: list[tuple[Command, int, str]] = []
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(_run, ctx, command, environment): command for command in commands}
        for future in as_completed(futures):
            status, said = future.result()
            if status:
                failed.append((futures[future], status, said))
            on_done()
    if failed:
        command, status, said = failed[0]
        more = f" ({len(failed)} of {len(commands)} failed; the others are done)" if len(commands) > 1 else ""
        error = ServiceError if status == SERVICE_ERROR else StepError
        raise error(f"{what}: {command.label} failed: {said}{more}")


def _run(ctx: Context, command: Command, environment: dict[str, str]) -> tuple[int, str]:
    """Return a command's exit status, and the error that it told."""
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "audioml", *command.arguments, "--workspace", str(ctx.workspace)],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        preexec_fn=die_with(os.getpid()),
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            tail.append(line.rstrip())
            sys.stderr.write(f"{command.name}: {line}")
    status = process.returncode
    if status < 0:
        return status, f"its process was killed by signal {-status}"
    errors = [i for i, line in enumerate(tail) if line.startswith("Error ")]
    lines = list(tail)[errors[-1] :] if errors else list(tail)[-1:]
    return status, "\n".join(lines).removeprefix("Error ")
