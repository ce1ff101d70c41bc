"""Runs the train step as one of its processes, without MLflow; notes what each process learns from and collects.

[torchrun ... --no-python] python _train_process.py WORKSPACE [--kill-second-at STEP]

The second process kills itself before that step, once; torchrun's own count of restarts differs from host to host.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from audioml.pipeline.context import Context
from audioml.pipeline.graph import find_step
from audioml.pipeline.runner import run_step
from audioml.pipeline.steps import train
from audioml.registry import runs
from audioml.training.module import TrainingModule
from audioml.training.tracker import MemoryTracker
from audioml.training.world import find_world


class Tracker(MemoryTracker):
    run_id = "one"


@contextmanager
def training_run(ctx: Context, run_id: str | None = None) -> Iterator[Tracker]:
    yield Tracker()


def main(workspace: Path, kill_at: int | None) -> None:
    training_step = TrainingModule.training_step
    rank, killed = find_world().rank, workspace / "killed"
    attempt = int(killed.exists())

    def note_and_step(self: TrainingModule, batch: Any, batch_index: int) -> Any:
        if (rank, attempt, self.global_step) == (1, 0, kill_at):
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        with (workspace / f"rank{rank}.jsonl").open("a") as notes:
            note = {"attempt": attempt, "step": self.global_step, "epoch": self.current_epoch}
            notes.write(json.dumps({**note, "clips": batch.clips.tolist()}) + "\n")
        return training_step(self, batch, batch_index)

    def note_collection(ctx: Context) -> dict[str, Any]:
        with ctx.path("collected.txt").open("a") as notes:
            notes.write(str(rank))
        return {}

    TrainingModule.training_step = note_and_step
    runs.training_run = training_run
    train.collect = note_collection
    run_step(Context.load(workspace), find_step("train"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[3]) if len(sys.argv) > 2 else None)
