"""Pretraining: a first phase without labels, for models that say what is to be minimised in it.

Such a model has a method ``pretraining_loss(features) -> Tensor``, of standardised features (n, bins, frames), and its
params have `pretrain_epochs`. The phase has a trainer, a learning-rate schedule and a checkpoint of its own, so its
epochs can be no best ones; what it leaves is the weights that the supervised phase starts from. All of the model is
trained in it, also what `training.freeze` keeps still afterwards. A training that starts from given weights has none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from torch import Tensor, nn

from audioml.errors import StepError
from audioml.params import Params, TrainingParams
from audioml.training.checkpoints import LAST, History
from audioml.training.loader import Batch, WindowLoader
from audioml.training.module import make_optimizer
from audioml.training.network import Network
from audioml.training.progress import ProgressLines
from audioml.training.quiet import quiet
from audioml.training.seeds import derive_seed
from audioml.training.tracker import Tracker
from audioml.training.trainer import LIGHTNING, NOISE, make_trainer
from audioml.training.world import find_world

FOLDER = "pretraining"
METRIC = "pretrain_loss"


def pretrain_epochs(params: Params, network: Network) -> int:
    """Return the epochs of the first phase; 0 where the model has none, or starts from weights that are there."""
    if params.training.init_from is not None or not hasattr(network.model, "pretraining_loss"):
        return 0
    return int(getattr(params.plugin_section("models"), "pretrain_epochs", 0))


class PretrainingModule(pl.LightningModule):  # type: ignore[misc]
    """Minimises the model's `pretraining_loss`; the head has no part in it."""

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: Network, training: TrainingParams, n_epochs: int, batches_per_epoch: int, seed: int
    ) -> None:
        super().__init__()
        self.model: Any = network.model
        self.register_buffer("mean", network.mean, persistent=False)
        self.register_buffer("std", network.std, persistent=False)
        self.training_params, self.n_epochs = training, n_epochs
        self.batches_per_epoch, self.seed = batches_per_epoch, seed
        self.metrics: dict[str, float] = {}
        """Of the last epoch: pretrain_loss, learning_rate."""
        self._loss_sum = torch.zeros(2)

    def on_train_epoch_start(self) -> None:
        """Start the sums of the epoch, and its order."""
        self._loss_sum = torch.zeros(2, device=self.device)
        self.trainer.train_dataloader.set_epoch(self.current_epoch)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss of a batch as it is stored."""
        torch.manual_seed(derive_seed(self.seed, "pretrain", self.current_epoch, batch_index, self.global_rank))
        loss: Tensor = self.model.pretraining_loss((batch.features - self.mean) / self.std)
        n = len(batch.features)
        self._loss_sum += torch.stack([loss.detach().float() * n, torch.tensor(float(n), device=self.device)])
        return loss

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_index: int) -> None:
        """Measure the epoch when it is over, over all processes."""
        if batch_index + 1 == self.batches_per_epoch:
            sums = self._loss_sum
            if self.trainer.world_size > 1:
                sums = self.all_gather(sums).sum(dim=0)
            rate = float(self.trainer.optimizers[0].param_groups[0]["lr"])
            self.metrics = {METRIC: float(sums[0] / sums[1]), "learning_rate": rate}

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW and a whole schedule of this phase's own."""
        steps_per_epoch = -(-self.batches_per_epoch // self.training_params.accumulate_batches)
        return make_optimizer(self.model, self.training_params, self.n_epochs, steps_per_epoch, self.n_epochs)


class PretrainingKeeper(Checkpoint):  # type: ignore[misc]
    """After each epoch: adds to the history, tells the tracker, saves."""

    def __init__(self, folder: Path, tracker: Tracker) -> None:
        self.folder, self.tracker = folder, tracker
        self.history: History = []
        self._started = 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of this."""
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the history of a checkpoint."""
        self.history = list(state_dict["history"])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of the epoch."""
        self._started = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record and save the epoch."""
        metrics: dict[str, float] = pl_module.metrics
        epoch = trainer.current_epoch + 1
        if not math.isfinite(metrics[METRIC]):
            raise StepError(
                f"Pretraining diverged in epoch {epoch}: {metrics}. Lower training.learning_rate, "
                "or raise training.warmup_epochs."
            )
        seconds = round(time.perf_counter() - self._started, 3)
        self.history.append({"epoch": epoch, **metrics, "seconds": seconds})
        if trainer.is_global_zero:
            self.tracker.log_metrics({METRIC: metrics[METRIC]}, step=epoch)
        trainer.save_checkpoint(self.folder / LAST)


def read_pretraining(state: Path) -> History:
    """Return a row (epoch, pretrain_loss, learning_rate, seconds) for each epoch that was pretrained."""
    last = state / FOLDER / LAST
    if not last.exists():
        return []
    callbacks = torch.load(last, map_location="cpu", weights_only=True)["callbacks"]
    history: History = callbacks[PretrainingKeeper.__name__]["history"]
    return history


def pretrain(params: Params, network: Network, loader: WindowLoader, state: Path, tracker: Tracker) -> None:
    """Pretrain the network's model to the end, in place, or take up what a killed run left.

    Parameters
    ----------
    loader
        Of this process's share of the training windows.
    state
        Checkpoints are in a folder of it.

    Raises
    ------
    StepError
        When pretraining diverges.
    """
    n_epochs, folder = pretrain_epochs(params, network), state / FOLDER
    last = folder / LAST
    if len(read_pretraining(state)) >= n_epochs:
        weights = torch.load(last, map_location="cpu", weights_only=True)["state_dict"]
        network.model.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
        return
    folder.mkdir(parents=True, exist_ok=True)
    keeper = PretrainingKeeper(folder, tracker)
    callbacks = [keeper, ProgressLines(n_epochs)] if find_world().is_first else [keeper]
    module = PretrainingModule(network, params.training, n_epochs, len(loader), params.seed)
    trainer = make_trainer(params.training, folder, callbacks, n_epochs, all_used=False)
    with quiet(LIGHTNING, NOISE), _all_trained(network.model):
        trainer.fit(module, loader, ckpt_path=last if last.exists() else None, weights_only=True)
    network.to("cpu")


@contextmanager
def _all_trained(model: nn.Module) -> Iterator[None]:
    """Train all of a model for the block, and freeze again what was frozen."""
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    model.requires_grad_(True)
    yield
    for parameter in frozen:
        parameter.requires_grad_(False)
