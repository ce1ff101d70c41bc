"""Rare classes: the class of each clip, and weights in the loss. Epochs of equal classes are drawn in `order.py`.

The class of a clip is what the task's `classes(truth)` says, or its truth where that is one integer a clip. The size
of a class is its number of windows.

A clip's weight travels as one more column of its targets, so that augmentations which mix targets mix weights alike.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioml.errors import ParamsError
from audioml.params import FILE_NAME

if TYPE_CHECKING:
    from audioml.training.data import Windows

Indices = NDArray[np.int64]


def find_classes(task: ModuleType, windows: Windows) -> Indices:
    """Return the class of each clip, int64 (clips,).

    Raises
    ------
    ParamsError
        When the task has no classes: its truth is not one integer a clip, and it has no function `classes`.
    """
    if hasattr(task, "classes"):
        return np.asarray(task.classes(windows.truth), np.int64)
    if windows.truth.ndim != 1 or windows.truth.dtype.kind not in "iu":
        raise ParamsError(
            f"{FILE_NAME}: the task {_name(task)!r} has no classes to balance. Set training.class_weights to none and "
            "training.sampling to shuffled."
        )
    return windows.truth.astype(np.int64)


def add_weights(task: ModuleType, train: Windows, validation: Windows) -> tuple[Windows, Windows]:
    """Return both with targets (clips, ..., k + 1), the last column each clip's weight.

    A weight is ``n / (classes × n_class)``, all of the training windows, so that its mean over them is 1 (as
    `sklearn.utils.class_weight.compute_class_weight` has it). Validation clips are weighed by the same classes.

    Raises
    ------
    ParamsError
        When the task has no classes, or no function `losses`.
    """
    if not hasattr(task, "losses"):
        raise ParamsError(
            f"{FILE_NAME}: the task {_name(task)!r} can't weigh single windows. Set training.class_weights to none."
        )
    of_clip = find_classes(task, train)
    classes, counts = np.unique(of_clip[train.clips], return_counts=True)
    weights = len(train.clips) / (len(classes) * counts)
    by_class = dict(zip(classes.tolist(), weights.tolist(), strict=True))
    train, validation = (
        _add_column(windows, np.array([by_class.get(k, 1.0) for k in found.tolist()]))
        for windows, found in ((train, of_clip), (validation, find_classes(task, validation)))
    )
    return train, validation


def split_weights(targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return targets (n, ..., k) and weights (n,) of targets with a last column of weights."""
    return targets[..., :-1], targets[..., -1].reshape(len(targets), -1).amax(dim=1)


def mean_loss(losses: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of the losses (n,), each times its weight (n,)."""
    return (losses * weights).mean()


def _add_column(windows: Windows, weights: NDArray[np.float64]) -> Windows:
    targets = torch.from_numpy(windows.targets)
    column = torch.from_numpy(weights.astype(np.float32)).reshape(-1, *[1] * (targets.ndim - 1))
    widened = torch.cat([targets.float(), column.expand(*targets.shape[:-1], 1)], dim=-1)
    return replace(windows, targets=widened.numpy())


def _name(task: ModuleType) -> str:
    return task.__name__.rpartition(".")[2]
