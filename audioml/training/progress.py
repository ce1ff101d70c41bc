"""A line per epoch: with a bar in a terminal, plain and fewer where the output is a log."""

from __future__ import annotations

import time

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

MIN_SECONDS_BETWEEN_LINES = 10.0
"""In a log, so that short epochs don't fill it and long ones still show life."""


class ProgressLines(pl.Callback):  # type: ignore[misc]
    """Shows each epoch's metrics on standard error."""

    def __init__(self, max_epochs: int, console: Console | None = None) -> None:
        self.max_epochs = max_epochs
        self.console = console or Console(stderr=True, highlight=False)
        self._progress = Progress(
            TextColumn("train"),
            BarColumn(),
            TextColumn("epoch {task.fields[epoch]}/{task.fields[max_epochs]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._line = ""
        self._written_at = float("-inf")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the bar; say so if a killed fit is taken up."""
        batches = trainer.num_training_batches
        done = trainer.global_step
        if done > 0:
            epochs, rest = divmod(done, -(-batches // trainer.accumulate_grad_batches))
            rest *= trainer.accumulate_grad_batches
            done = epochs * batches + rest
            where = f" and {rest}/{batches} batches" if rest else ""
            self.console.print(f"resumes after epoch {epochs}/{self.max_epochs}{where}", markup=False)
        total = self.max_epochs * batches
        self._bar = self._progress.add_task(
            "train", total=total, completed=done, epoch=trainer.current_epoch + 1, max_epochs=self.max_epochs
        )
        self._progress.start()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Move the bar."""
        self._progress.update(self._bar, advance=1, epoch=trainer.current_epoch + 1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's line; in a log, only if the last one is a while ago."""
        numbers = "  ".join(f"{name} {value:.4g}" for name, value in pl_module.metrics.items())
        self._line = f"epoch {trainer.current_epoch + 1:3d}/{self.max_epochs}  {numbers}"
        if self.console.is_terminal or time.perf_counter() - self._written_at >= MIN_SECONDS_BETWEEN_LINES:
            self._write_line()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the bar, and write the last epoch's line if it was left out."""
        self._progress.stop()
        self._write_line()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Close the bar, so that the error is readable."""
        self._progress.stop()

    def _write_line(self) -> None:
        if self._line:
            self.console.print(self._line, soft_wrap=True)
        self._line, self._written_at = "", time.perf_counter()
