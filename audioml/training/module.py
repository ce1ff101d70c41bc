"""The Lightning module: augmentation, loss, schedule, and validation on whole clips."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from audioml.params import Section, TrainingParams
from audioml.tasks._outputs import divide, join, merge_windows, primary_of, stack, sum_scores
from audioml.training.adapt import still_parts
from audioml.training.augmentation import Augmenter
from audioml.training.averaging import first_averaged_epoch
from audioml.training.balance import mean_loss, split_weights
from audioml.training.data import Windows
from audioml.training.loader import Batch
from audioml.training.network import Network
from audioml.training.seeds import derive_seed

MIN_LEARNING_RATE_SHARE = 1e-3
"""What is left of the learning rate at the last step."""


class TrainingModule(pl.LightningModule):  # type: ignore[misc]
    """Trains a `Network` for a task. All randomness follows from the seed and the epoch."""

    def __init__(
        self,
        network: Network,
        task: ModuleType,
        task_params: Section,
        targets: dict[str, Any],
        augmenter: Augmenter,
        training: TrainingParams,
        validation: Windows,
        batches_per_epoch: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.task, self.task_params, self.targets = task, task_params, targets
        self.augmenter = augmenter
        self.training_params = training
        self.validation = validation
        self.batches_per_epoch = batches_per_epoch
        self.still_parts = still_parts(network, training)
        self.seed = seed
        self.metrics: dict[str, float] = {}
        """Of the last epoch: train_loss, val_loss, val_<primary metric>, learning_rate."""
        self._loss_sum = torch.zeros(2, dtype=torch.float64)
        self._outputs: list[tuple[Tensor, Tensor]] = []

    def on_train_epoch_start(self) -> None:
        """Start the sums of the epoch, and its order. A fit that is taken up in mid-epoch has both from there."""
        self._loss_sum = torch.zeros(2, dtype=torch.float64)
        for part in self.still_parts:
            part.eval()
        # Lightning tells samplers of torch's own loader only.
        self.trainer.train_dataloader.set_epoch(self.current_epoch)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss of an augmented batch."""
        where = (self.current_epoch, batch_index, self.global_rank)
        # Dropout draws from the global generator, as do Lightning and the loaders, and at other moments in a
        # resumed run: so it is seeded at every step.
        torch.manual_seed(derive_seed(self.seed, "dropout", *where))
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "augment", *where))
        features, targets = self.augmenter(batch, generator)
        loss = self._loss(self.network(features), targets)
        self._loss_sum += torch.tensor([float(loss.detach()) * len(features), len(features)], dtype=torch.float64)
        if self.training_params.l1:
            loss = loss + self.training_params.l1 * sum(p.abs().sum() for p in self.network.parameters() if p.ndim > 1)
        return loss * self._share_of_step(batch_index)

    def _loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if self.training_params.class_weights == "none":
            loss: Tensor = self.task.loss(self.task_params, outputs, targets)
            return loss
        targets, weights = split_weights(targets)
        return mean_loss(self.task.losses(self.task_params, outputs, targets), weights)

    def _share_of_step(self, batch_index: int) -> float:
        """Return what makes Lightning's division by `accumulate_batches` right where a step has fewer, at the end."""
        n = self.training_params.accumulate_batches
        return n / min(n, self.batches_per_epoch - batch_index // n * n)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the sums of the epoch so far, those of each process; all processes call this."""
        sums = self._loss_sum.to(self.device)
        gathered = self.all_gather(sums) if self.trainer.world_size > 1 else sums.unsqueeze(0)
        checkpoint["loss_sums"] = gathered.cpu()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with this process's sums."""
        sums = checkpoint["loss_sums"]
        if len(sums) == self.trainer.world_size:
            self._loss_sum = sums[self.global_rank].clone()

    def on_validation_epoch_start(self) -> None:
        """Forget the outputs of the epoch before, and let all processes judge the statistics that are saved."""
        self._outputs = []
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Keep the raw outputs; they are judged per clip when all are there."""
        self._outputs.append((self.network(batch.features).float().cpu(), batch.windows.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Measure the loss over windows and the task's primary metric over clips, over all processes."""
        sums = torch.cat([self._loss_sum, torch.zeros(4, dtype=torch.float64)])
        if self._outputs:
            sums[2:] = torch.tensor([*self._sum_losses(), *self._sum_scores()])
        if self.trainer.world_size > 1:
            # Some devices have no float64, and the sums are of few numbers.
            sums = self.all_gather(sums.to(self.device, torch.float32)).sum(dim=0).double().cpu()
        train_loss, n_train, val_loss, n_val, score, weight = sums.tolist()
        self.metrics = {
            "train_loss": train_loss / max(n_train, 1.0),
            "val_loss": val_loss / n_val,
            f"val_{primary_of(self.task, self.task_params)}": divide(score, weight),
            "learning_rate": float(self.trainer.optimizers[0].param_groups[0]["lr"]),
        }

    def _sum_losses(self) -> tuple[float, float]:
        loss, n = 0.0, 0
        for outputs, windows in self._outputs:
            targets = torch.from_numpy(self.validation.targets_of(windows.numpy()))
            loss += float(self._loss(outputs, targets)) * len(outputs)
            n += len(outputs)
        return loss, float(n)

    def _sum_scores(self) -> tuple[float, float]:
        """Return numerator and denominator of the primary metric.

        Where it is no ratio of sums over clips, several processes give the mean of theirs.
        """
        validation = self.validation
        outputs = join([outputs.numpy() for outputs, _ in self._outputs])
        windows = torch.cat([windows for _, windows in self._outputs]).numpy()
        order = np.lexsort((windows, validation.clips[windows]))
        clips, starts = np.unique(validation.clips[windows[order]], return_index=True)
        offsets_s, durations_s = (values[windows] for values in (validation.offsets_s, validation.durations_s))
        merged = stack(
            [
                merge_windows(self.task, self.targets, outputs[chosen], offsets_s[chosen], durations_s[chosen])
                for chosen in np.split(order, starts[1:])
            ]
        )
        return sum_scores(self.task, self.targets, validation.truth[clips], merged)

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW and its schedule; SWA averages where the learning rate is held."""
        params = self.training_params
        steps_per_epoch = -(-self.batches_per_epoch // params.accumulate_batches)
        held = first_averaged_epoch(params) if params.average == "swa" else params.max_epochs
        return make_optimizer(self.network, params, params.max_epochs, steps_per_epoch, held)


def make_optimizer(
    network: nn.Module, params: TrainingParams, n_epochs: int, steps_per_epoch: int, held_from_epoch: int
) -> dict[str, Any]:
    """Return AdamW, and a schedule by step: linear warm-up, then half a cosine (Loshchilov and Hutter 2017).

    Biases and the scales of normalisations are not decayed, and what is frozen is left out. From an epoch on (from 0)
    the learning rate may be held.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": params.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=params.learning_rate)
    n_steps = n_epochs * steps_per_epoch
    n_warmup = min(round(params.warmup_epochs * steps_per_epoch), n_steps // 2)
    held_from = max(n_warmup, held_from_epoch * steps_per_epoch)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: learning_rate_share(min(step, held_from), n_warmup, n_steps)
    )
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def learning_rate_share(step: int, n_warmup: int, n_steps: int) -> float:
    """Return the share of the peak learning rate at a step: 1 at the end of the warm-up, near 0 at the last."""
    if step < n_warmup:
        return (step + 1) / n_warmup
    done = min(1.0, (step - n_warmup) / max(1, n_steps - n_warmup))
    return MIN_LEARNING_RATE_SHARE + (1 - MIN_LEARNING_RATE_SHARE) * 0.5 * (1 + math.cos(math.pi * done))
