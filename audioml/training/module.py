"""The Lightning module: augmentation, loss, schedule, and validation on whole clips."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from audioml.params import Section, TrainingParams
from audioml.plugins import load_plugin
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
        augment: list[tuple[str, Section]],
        training: TrainingParams,
        validation: Windows,
        steps_per_epoch: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.task, self.task_params, self.targets = task, task_params, targets
        self.augmentations = [(load_plugin("augment", name), section) for name, section in augment]
        self.training_params = training
        self.validation = validation
        self.steps_per_epoch = steps_per_epoch
        self.seed = seed
        self.metrics: dict[str, float] = {}
        """Of the last epoch: train_loss, val_loss, val_<primary metric>, learning_rate."""
        self._loss_sum = torch.zeros(2, dtype=torch.float64)
        self._outputs: list[tuple[Tensor, Tensor]] = []

    def on_train_epoch_start(self) -> None:
        """Start the sums of the epoch, and its order. A fit that is taken up in mid-epoch has both from there."""
        self._loss_sum = torch.zeros(2, dtype=torch.float64)
        # Lightning tells samplers of torch's own loader only.
        self.trainer.train_dataloader.set_epoch(self.current_epoch)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the loss of an augmented batch."""
        features, targets = batch.features, batch.targets
        where = (self.current_epoch, batch_index, self.global_rank)
        # Dropout draws from the global generator, as do Lightning and the loaders, and at other moments in a
        # resumed run: so it is seeded at every step.
        torch.manual_seed(derive_seed(self.seed, "dropout", *where))
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "augment", *where))
        for augmentation, section in self.augmentations:
            features, targets = augmentation.apply(section, features, targets, generator)
        loss: Tensor = self.task.loss(self.task_params, self.network(features), targets)
        self._loss_sum += torch.tensor([float(loss.detach()) * len(features), len(features)], dtype=torch.float64)
        return loss

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
        """Forget the outputs of the epoch before."""
        self._outputs = []

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Keep the raw outputs; they are judged per clip when all are there."""
        self._outputs.append((self.network(batch.features).float().cpu(), batch.clips.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Measure the loss over windows and the task's primary metric over clips, over all processes."""
        sums = torch.cat([self._loss_sum, torch.zeros(4, dtype=torch.float64)])
        if self._outputs:
            outputs = torch.cat([o for o, _ in self._outputs])
            clips = torch.cat([c for _, c in self._outputs]).numpy()
            sums[2:] = torch.tensor([*self._sum_loss(outputs, clips), *self._sum_scores(outputs.numpy(), clips)])
        if self.trainer.world_size > 1:
            # Some devices have no float64, and the sums are of few numbers.
            sums = self.all_gather(sums.to(self.device, torch.float32)).sum(dim=0).double().cpu()
        train_loss, n_train, val_loss, n_val, score, weight = sums.tolist()
        self.metrics = {
            "train_loss": train_loss / max(n_train, 1.0),
            "val_loss": val_loss / n_val,
            f"val_{self.task.PRIMARY}": score / weight,
            "learning_rate": float(self.trainer.optimizers[0].param_groups[0]["lr"]),
        }

    def _sum_loss(self, outputs: Tensor, clips: np.ndarray[Any, Any]) -> tuple[float, float]:
        targets = torch.from_numpy(self.validation.targets[clips])
        return float(self.task.loss(self.task_params, outputs, targets)) * len(outputs), float(len(outputs))

    def _sum_scores(self, outputs: np.ndarray[Any, Any], clips: np.ndarray[Any, Any]) -> tuple[float, float]:
        order = np.unique(clips)
        merged = np.stack([self.task.merge_outputs(outputs[clips == clip]) for clip in order])
        score, weight = self.task.score_clips(self.targets, self.validation.truth[order], merged).sum(axis=0)
        return float(score), float(weight)

    def configure_optimizers(self) -> dict[str, Any]:
        """Return AdamW, and a schedule by step: linear warm-up, then half a cosine (Loshchilov and Hutter 2017).

        Biases and the scales of normalisations are not decayed.
        """
        params = self.training_params
        kernels = [p for p in self.network.parameters() if p.ndim > 1]
        others = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [
            {"params": kernels, "weight_decay": params.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=params.learning_rate)
        n_steps = params.max_epochs * self.steps_per_epoch
        n_warmup = min(round(params.warmup_epochs * self.steps_per_epoch), n_steps // 2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: learning_rate_share(s, n_warmup, n_steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def learning_rate_share(step: int, n_warmup: int, n_steps: int) -> float:
    """Return the share of the peak learning rate at a step: 1 at the end of the warm-up, near 0 at the last."""
    if step < n_warmup:
        return (step + 1) / n_warmup
    done = min(1.0, (step - n_warmup) / max(1, n_steps - n_warmup))
    return MIN_LEARNING_RATE_SHARE + (1 - MIN_LEARNING_RATE_SHARE) * 0.5 * (1 + math.cos(math.pi * done))
