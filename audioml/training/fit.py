"""Fit a network: from features and splits to the best epoch's weights, resumable after a kill at any time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
from numpy.typing import NDArray

from audioml.errors import DatasetError
from audioml.features._window import window_samples
from audioml.params import Params
from audioml.plugins import load_plugin
from audioml.training.checkpoints import (
    BEST,
    LAST,
    AtomicCheckpointIO,
    EpochKeeper,
    History,
    find_best,
    is_finished,
    read_history,
)
from audioml.training.data import Features, Windows, measure_bins, select_windows
from audioml.training.loader import WindowLoader
from audioml.training.module import TrainingModule
from audioml.training.network import Network, build_network
from audioml.training.order import ShuffledOrder, StoredOrder
from audioml.training.progress import ProgressLines
from audioml.training.quiet import quiet
from audioml.training.tracker import NullTracker, Tracker
from audioml.training.world import find_world

if TYPE_CHECKING:
    import pandas as pd

MAX_GRADIENT_NORM = 5.0
LIGHTNING = ("pytorch_lightning", "lightning", "lightning_fabric")
NOISE = (
    r".*does not have many workers.*",
    r".*Starting from v1\.9\.0, `tensorboardX`.*",
    r".*You defined a `validation_step` but have no `val_dataloader`.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*LeafSpec.* is deprecated.*",
    r".*GPU available but not used.*",
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*all_gather is deprecated.*",
)
"""Lightning's remarks on what is meant here."""


@dataclass(frozen=True)
class FitResult:
    """A finished training."""

    checkpoint: Path
    """Lightning checkpoint of the best epoch."""
    targets: dict[str, Any]
    history: History
    n_parameters: int
    n_quarantined: int
    """Clips that were left out as there are no features of them."""

    @property
    def best(self) -> Mapping[str, float]:
        """The best epoch's row of the history."""
        return find_best(self.history)


def fit(
    params: Params, features: Features, manifest: pd.DataFrame, splits: pd.DataFrame, state: Path, tracker: Tracker
) -> FitResult:
    """Train on the clips of the split ``train``, keep the epoch with the lowest loss on ``validation``.

    Parameters
    ----------
    params
        All params; `seed`, `task`, `model`, `augment` and `training` matter here.
    features
        Windows of all clips; those in quarantine are left out.
    manifest, splits
        One row a clip; joined by `clip_id`.
    state
        Folder for checkpoints. What is there is resumed from, so it must belong to the same inputs; the
        result is then bit for bit that of a run that nothing stopped (on the same kind of machine, with the
        same number of threads and devices).
    tracker
        Is told params and metrics, by the first process only.

    Raises
    ------
    DatasetError
        When a split is empty, a label is in validation only, or a clip that is not in quarantine has no features.
    ParamsError
        When the model needs windows of one length, and each clip has its own.
    StepError
        When training diverges.
    """
    state.mkdir(parents=True, exist_ok=True)
    learning = _prepare(params, features, manifest, splits)
    history = read_history(state / LAST) if (state / LAST).exists() else []
    first = find_world().is_first
    if first:
        tracker.log_params(learning.describe())
        # A killed run may not have told these; telling them twice does no harm.
        for row in history:
            tracker.log_metrics({k: v for k, v in row.items() if k != "epoch"}, step=int(row["epoch"]))
    if not is_finished(history, params.training):
        history = _train(params, learning, state, tracker if first else NullTracker())
    return FitResult(state / BEST, learning.targets, history, learning.network.n_parameters, learning.n_quarantined)


@dataclass(frozen=True)
class _Learning:
    """What is learned from what."""

    network: Network
    task: ModuleType
    task_params: Any
    targets: dict[str, Any]
    train: Windows
    validation: Windows
    silence: NDArray[np.float32] | None
    """What follows shorter windows in a batch, (bins,); None where all are of one length."""
    n_quarantined: int

    def describe(self) -> dict[str, Any]:
        """Return what a tracker is told before the first epoch."""
        counts = {
            "n_parameters": self.network.n_parameters,
            "train_clips": len(self.train.truth),
            "validation_clips": len(self.validation.truth),
        }
        return counts | ({"quarantined_clips": self.n_quarantined} if self.n_quarantined else {})


def _prepare(params: Params, features: Features, manifest: pd.DataFrame, splits: pd.DataFrame) -> _Learning:
    task, task_params = load_plugin("tasks", params.task.name), params.plugin_section("tasks")
    usable = manifest[~manifest["clip_id"].isin(list(features.quarantined))]
    train_clips, validation_clips = (_clips_of(usable, splits, name) for name in ("train", "validation"))
    targets = task.fit_targets(task_params, train_clips)
    train, validation = (
        select_windows(
            features,
            list(clips["clip_id"]),
            task.encode_targets(task_params, targets, clips),
            task.truth(targets, clips),
        )
        for clips in (train_clips, validation_clips)
    )
    network = build_network(params, targets, features.shape)
    network.set_standardisation(*measure_bins(train))
    silence = silent_bins(params) if features.shape[1] is None else None
    n_quarantined = len(manifest) - len(usable)
    return _Learning(network, task, task_params, targets, train, validation, silence, n_quarantined)


def _clips_of(manifest: pd.DataFrame, splits: pd.DataFrame, name: str) -> pd.DataFrame:
    chosen = manifest[manifest["clip_id"].isin(splits.loc[splits["split"] == name, "clip_id"])]
    if chosen.empty:
        raise DatasetError(
            f"The split {name!r} has no clips, and training needs some. Raise split.validation_share, "
            "add recordings, or choose another split.group; then: audioml run split"
        )
    return chosen


def _train(params: Params, learning: _Learning, state: Path, tracker: Tracker) -> History:
    training, world = params.training, find_world()
    keeper = EpochKeeper(state, training, tracker)
    with quiet(LIGHTNING, NOISE):
        trainer = pl.Trainer(
            accelerator=training.accelerator,
            # As many as torchrun started on this host, where it did.
            devices=training.devices if world.attempt is None else world.local_size,
            num_nodes=training.num_nodes,
            precision=training.precision,
            max_epochs=training.max_epochs,
            gradient_clip_val=MAX_GRADIENT_NORM,
            deterministic=True,
            plugins=[AtomicCheckpointIO()],
            callbacks=[keeper, ProgressLines(training.max_epochs)] if world.is_first else [keeper],
            default_root_dir=state,
            logger=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        train, validation = _make_loaders(learning, training.batch_size, params.seed, trainer)
        module = TrainingModule(
            learning.network,
            learning.task,
            learning.task_params,
            learning.targets,
            params.augment_sections(),
            training,
            learning.validation,
            len(train),
            params.seed,
        )
        last = state / LAST
        trainer.fit(
            module,
            train,
            validation,
            ckpt_path=last if last.exists() else None,
            weights_only=True,
        )
    return keeper.history


def _make_loaders(
    learning: _Learning, batch_size: int, seed: int, trainer: pl.Trainer
) -> tuple[WindowLoader, WindowLoader]:
    """Return the loaders of this process. In validation each gets whole clips, and nothing is padded."""
    rank, n_ranks = trainer.global_rank, trainer.world_size
    pin_memory = trainer.strategy.root_device.type == "cuda"
    train, validation = learning.train, learning.validation
    shuffled = ShuffledOrder(train.frames, train.shards, train.window_bytes, batch_size, seed, rank, n_ranks)
    stored = StoredOrder(validation.frames, np.flatnonzero(validation.clips % n_ranks == rank), batch_size)
    return (
        WindowLoader(train, shuffled, learning.silence, pin_memory),
        WindowLoader(validation, stored, pin_memory=pin_memory),
    )


def silent_bins(params: Params) -> NDArray[np.float32]:
    """Return what the feature makes of silence, one number a bin, float32 (bins,)."""
    section = params.plugin_section("features")
    silence = np.zeros((1, window_samples(section)), np.float32)
    features: NDArray[np.float32] = load_plugin("features", params.features.name).extract(section, silence)
    return features[0, :, features.shape[2] // 2]
