"""What is kept while training: the history, the best epoch, and the last one to resume from."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins import TorchCheckpointIO
from pytorch_lightning.callbacks import Checkpoint

from audioml.errors import StepError
from audioml.params import TrainingParams
from audioml.store.files import write_atomic
from audioml.training.tracker import Tracker

BEST, LAST = "best.ckpt", "last.ckpt"
History = list[dict[str, float]]
"""One row an epoch: epoch, train_loss, val_loss, val_<primary metric>, learning_rate, seconds."""


class AtomicCheckpointIO(TorchCheckpointIO):  # type: ignore[misc]
    """Writes checkpoints whole or not at all."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write beside, flush, rename."""
        with write_atomic(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


class EpochKeeper(Checkpoint):  # type: ignore[misc]
    """After each epoch: adds to the history, tells the tracker, saves, and stops when nothing gets better.

    It saves within epochs as well, every `checkpoint_every_steps`.

    The history is part of each checkpoint, and whether to stop follows from it alone, so a resumed run
    stops where an undisturbed one does.
    """

    def __init__(self, folder: Path, params: TrainingParams, tracker: Tracker, description: dict[str, Any]) -> None:
        self.folder, self.params, self.tracker, self.description = folder, params, tracker, description
        self.history: History = []
        self._started = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of this."""
        return {"history": self.history, "seconds": time.perf_counter() - self._started}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Say in each checkpoint which network it is of."""
        checkpoint["network"] = self.description

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the history of a checkpoint, and the clock of its epoch."""
        self.history = list(state_dict["history"])
        self._started = time.perf_counter() - state_dict["seconds"]

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of the epoch."""
        self._started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save within the epoch; its end is saved when validation has run."""
        every, last = self.params.checkpoint_every_steps, batch_idx + 1 == trainer.num_training_batches
        ends_step = (batch_idx + 1) % self.params.accumulate_batches == 0
        if every and ends_step and trainer.global_step % every == 0 and not last:
            trainer.save_checkpoint(self.folder / LAST)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record and save the epoch; validation has run by now."""
        metrics: dict[str, float] = pl_module.metrics
        epoch = trainer.current_epoch + 1
        if not all(math.isfinite(value) for value in metrics.values()):
            raise StepError(
                f"Training diverged in epoch {epoch}: {metrics}. Lower training.learning_rate, "
                "or raise training.warmup_epochs."
            )
        seconds = round(time.perf_counter() - self._started, 3)
        self.history.append({"epoch": epoch, **metrics, "seconds": seconds})
        if trainer.is_global_zero:
            self.tracker.log_metrics({**metrics, "seconds_per_epoch": seconds}, step=epoch)
        trainer.should_stop = trainer.should_stop or is_finished(self.history, self.params)
        if find_best(self.history)["epoch"] == epoch:
            trainer.save_checkpoint(self.folder / BEST)
        if epoch % self.params.checkpoint_every_epochs == 0:
            trainer.save_checkpoint(self.folder / LAST)


def find_best(history: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    """Return the row with the lowest validation loss, the first of equals."""
    return min(history, key=lambda row: row["val_loss"])


def is_finished(history: Sequence[Mapping[str, float]], params: TrainingParams) -> bool:
    """Tell whether all epochs are done, or `patience` epochs passed without a better validation loss."""
    if not history:
        return False
    epochs = history[-1]["epoch"]
    return epochs >= params.max_epochs or epochs - find_best(history)["epoch"] >= params.patience


def read_history(checkpoint: Path) -> History:
    """Return the history that a checkpoint holds."""
    callbacks = torch.load(checkpoint, map_location="cpu", weights_only=True)["callbacks"]
    history: History = callbacks[EpochKeeper.__name__]["history"]
    return history
