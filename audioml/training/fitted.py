"""Fit a model without gradient descent: scikit-learn and the like fit arrays, torch states what they decide."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from audioml.errors import ParamsError
from audioml.params import FILE_NAME, Params
from audioml.store.files import write_atomic
from audioml.tasks._outputs import divide, primary_of, sum_scores
from audioml.training.checkpoints import BEST, EpochKeeper, History, read_history
from audioml.training.data import Selection, Windows
from audioml.training.network import Network, build_fitted_network, load_model
from audioml.training.order import StoredOrder
from audioml.training.seeds import derive_seed
from audioml.training.tracker import Tracker

TASK = "classification"
BATCH_SIZE = 32
"""Windows that are read, and judged, together."""


def fit_at_once(params: Params, selection: Selection, state: Path, tracker: Tracker) -> tuple[History, int]:
    """Fit a model whose plug-in has `fit`, and write it as the checkpoint of the best epoch, unless it is there.

    Returns
    -------
    tuple
        A history of one row: epoch 1, train_loss, val_loss, val_<primary metric>, seconds; and how many numbers
        the model holds.

    Raises
    ------
    ParamsError
        When the task is not classification, the model needs windows of one length and each has its own, or params ask
        for weights to start from.
    """
    if params.task.name != TASK:
        raise ParamsError(
            f"{FILE_NAME}: the model {params.model.name!r} is fitted without gradient descent and learns the task "
            f"{TASK!r} only, but task.name is {params.task.name!r}. Choose another model, such as rescnn."
        )
    training = params.training
    asked = {"init_from": training.init_from is not None, "freeze": training.freeze != "none"}
    if keys := [f"training.{key}" for key, is_set in asked.items() if is_set]:
        raise ParamsError(
            f"{FILE_NAME}: the model {params.model.name!r} is fitted without gradient descent, so it can't start from "
            f"another model's weights or keep some of them still. Remove {' and '.join(keys)}, or choose another model."
        )
    if not (state / BEST).exists():
        _fit(params, selection, state / BEST)
    history = read_history(state / BEST)
    arrays = torch.load(state / BEST, map_location="cpu", weights_only=True)["state_dict"]
    n_numbers = sum(values.numel() for values in arrays.values())
    tracker.log_params({"n_parameters": n_numbers})
    for row in history:
        tracker.log_metrics({name: value for name, value in row.items() if name != "epoch"}, step=int(row["epoch"]))
    return history, n_numbers


@dataclass(frozen=True, eq=False)
class LabelledBatches:
    """Windows of equal length together, in stored order, with their labels; as often as it is iterated over."""

    windows: Windows

    def __iter__(self) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
        for features, clips in _read(self.windows):
            yield features, self.windows.truth[clips].astype(np.int64)


def _fit(params: Params, selection: Selection, path: Path) -> None:
    console = Console(stderr=True, highlight=False)
    console.print(
        f"{params.model.name} is fitted at once: the sections augment and training do not apply", markup=False
    )
    started = time.perf_counter()
    windows, name = selection.train, params.model.name
    plugin, bins = load_model(params, windows.features.shape), windows.features.shape[0]
    seed = derive_seed(params.seed, "fit") % 2**31
    n_labels = len(selection.targets["labels"])
    fitted = plugin.fit(params.plugin_section("models"), LabelledBatches(windows), n_labels, seed)
    arrays = {key: torch.from_numpy(np.ascontiguousarray(values)) for key, values in fitted.items()}
    network = build_fitted_network(params, arrays, bins)
    train_loss, _ = _judge(network, selection, windows)
    val_loss, score = _judge(network, selection, selection.validation)
    metrics = {
        "train_loss": train_loss,
        "val_loss": val_loss,
        f"val_{primary_of(selection.task, selection.task_params)}": score,
    }
    history = [{"epoch": 1, **metrics, "seconds": round(time.perf_counter() - started, 3)}]
    with write_atomic(path) as temporary:
        torch.save({"state_dict": arrays, "callbacks": {EpochKeeper.__name__: {"history": history}}}, temporary)
    numbers = "  ".join(f"{key} {value:.4g}" for key, value in history[0].items() if key != "epoch")
    console.print(f"{name}  {numbers}", soft_wrap=True, markup=False)


def _judge(network: Network, selection: Selection, windows: Windows) -> tuple[float, float]:
    """Return the mean loss over windows, and the primary metric over clips."""
    task = selection.task
    with torch.no_grad():
        judged = [(network(torch.from_numpy(features)), clips) for features, clips in _read(windows)]
    outputs, clips = torch.cat([values for values, _ in judged]), np.concatenate([clips for _, clips in judged])
    loss = task.loss(selection.task_params, outputs, torch.from_numpy(windows.targets[clips]))
    order = np.argsort(clips, kind="stable")
    bounds = np.flatnonzero(np.diff(clips[order])) + 1
    merged = np.stack([task.merge_outputs(own) for own in np.split(outputs.numpy()[order], bounds)])
    return float(loss), divide(*sum_scores(task, selection.targets, windows.truth[np.unique(clips)], merged))


def _read(windows: Windows) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Yield features (n, bins, frames) and the clip of each, in stored order, those of equal length together."""
    frames = windows.frames
    for positions in StoredOrder(frames, np.arange(len(frames)), BATCH_SIZE).batches(0):
        yield windows.features.take(windows.rows[positions]), windows.clips[positions]
