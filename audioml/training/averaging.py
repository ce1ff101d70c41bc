"""Averages of the weights over steps or epochs, validated, kept and exported in place of the last weights."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from audioml.params import TrainingParams
from audioml.training.loader import WindowLoader

SWA_START = 0.75
"""Share of the epochs after which SWA begins to average (Izmailov et al. 2018, section 4.1)."""
BATCHNORM_BATCHES = 64
"""At most, of those that statistics of batch normalisations are estimated from."""
AVERAGE = "average"
"""Key of a checkpoint: the weights that are trained on, beside their average in its `state_dict`."""


def first_averaged_epoch(training: TrainingParams) -> int:
    """Return the epoch, from 0, at whose end SWA begins to average, and before which the learning rate is held."""
    return max(1, int(SWA_START * training.max_epochs))


def ema_decay(n_updates: int, decay: float) -> float:
    """Return the decay of the next update of a moving average: less in the first ones, so that short runs work.

    Source: the warm-up of TensorFlow's `ExponentialMovingAverage`, ``min(decay, (1 + n) / (10 + n))``.
    """
    return min(decay, (1 + n_updates) / (10 + n_updates))


class WeightAverage(pl.Callback):  # type: ignore[misc]
    """Averages the weights of `module.network`; the average is what is validated and what checkpoints hold.

    ema: after every step. The statistics of batch normalisations are averaged like weights.
    swa: at the ends of the last epochs, all alike (Izmailov et al., "Averaging Weights Leads to Wider Optima and Better
    Generalization", UAI 2018, arXiv 1803.05407). The statistics of batch normalisations are estimated anew for the
    mean, from training windows as they are.
    """

    def __init__(self, training: TrainingParams) -> None:
        self.training = training
        self._mean: dict[str, Tensor] = {}
        """By name, as in the network's state; empty before the first update."""
        self._n_updates = self._step = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take the average of a checkpoint to the device."""
        self._mean = {name: value.to(pl_module.device) for name, value in self._mean.items()}
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the moving average where the batch ended a step."""
        if self.training.average == "ema" and trainer.global_step > self._step:
            self._update(pl_module.network, ema_decay(self._n_updates, self.training.ema_decay))
        self._step = trainer.global_step

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in the place of the weights."""
        network = pl_module.network
        averages = self.training.average == "swa" and trainer.current_epoch >= first_averaged_epoch(self.training)
        if averages:
            self._update(network, self._n_updates / (self._n_updates + 1))
        self._swap(network)
        if averages and self.training.freeze == "none" and self.training.adapt == "none":
            estimate_batchnorm(network, trainer.train_dataloader, trainer.current_epoch)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the weights back."""
        self._swap(pl_module.network)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the average as the checkpoint's weights, and beside it those that training goes on with."""
        if self._mean:
            checkpoint[AVERAGE] = {"n_updates": self._n_updates, "trained": checkpoint["state_dict"]}
            checkpoint["state_dict"] = {f"network.{name}": value for name, value in self._mean.items()}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on with both."""
        if AVERAGE in checkpoint:
            self._n_updates = checkpoint[AVERAGE]["n_updates"]
            state = checkpoint["state_dict"]
            self._mean = {name.removeprefix("network."): value.clone() for name, value in state.items()}
            pl_module.load_state_dict(checkpoint[AVERAGE]["trained"])

    @torch.no_grad()
    def _update(self, network: nn.Module, decay: float) -> None:
        state = network.state_dict()
        if not self._mean:
            self._mean = {name: value.clone() for name, value in state.items()}
        for name, value in state.items():
            if value.is_floating_point():
                self._mean[name].lerp_(value, 1 - decay)
            else:
                self._mean[name].copy_(value)
        self._n_updates += 1

    @torch.no_grad()
    def _swap(self, network: nn.Module) -> None:
        if self._mean:
            for name, value in network.state_dict().items():
                held = value.clone()
                value.copy_(self._mean[name])
                self._mean[name].copy_(held)


@torch.no_grad()
def estimate_batchnorm(network: nn.Module, loader: WindowLoader, epoch: int) -> None:
    """Set the statistics of batch normalisations to the mean over the first batches of an epoch, as they are stored.

    Everything else is as in inference, and the network is left in that mode.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, _BatchNorm)]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    network.eval()
    for layer in layers:
        layer.train()
        layer.reset_running_stats()
        layer.momentum = None
    device = next(network.parameters()).device
    again = WindowLoader(loader.windows, loader.order, loader.silence, loader.pin_memory)
    again.set_epoch(epoch)
    for batch in islice(again, BATCHNORM_BATCHES):
        network(batch.features.to(device))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    network.eval()
