"""Fit a network: from features and splits to the best epoch's weights, resumable after a kill at any time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.nn.utils.memory_format import convert_conv2d_weight_memory_format

from audioml.errors import DatasetError
from audioml.features._window import window_samples
from audioml.params import Params
from audioml.plugins import load_plugin
from audioml.tasks._outputs import seconds_per_frame
from audioml.training.adapt import restrict
from audioml.training.augmentation import Augmenter
from audioml.training.averaging import WeightAverage
from audioml.training.balance import add_weights, find_classes
from audioml.training.checkpoints import BEST, LAST, EpochKeeper, History, find_best, is_finished, read_history
from audioml.training.data import Features, Selection, encode_along_time, measure_bins, select_windows
from audioml.training.fitted import fit_at_once
from audioml.training.loader import WindowLoader
from audioml.training.module import TrainingModule
from audioml.training.network import Network, build_network, is_fitted
from audioml.training.order import ShuffledOrder, StoredOrder
from audioml.training.pretraining import pretrain, pretrain_epochs, read_pretraining
from audioml.training.progress import ProgressLines
from audioml.training.quiet import quiet
from audioml.training.seeds import derive_seed
from audioml.training.tracker import NullTracker, Tracker
from audioml.training.trainer import LIGHTNING, NOISE, make_trainer
from audioml.training.transfer import describe_network, start_from
from audioml.training.world import find_world

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class FitResult:
    """A finished training."""

    checkpoint: Path
    """Of the best epoch: Lightning's, or what a model that is fitted at once holds."""
    targets: dict[str, Any]
    history: History
    pretraining: History
    """One row an epoch of pretraining, if there was one: epoch, pretrain_loss, learning_rate, seconds."""
    n_parameters: int
    n_trained: int
    """Parameters that were trained; with low-rank adaptation, those of the changes and of the head."""
    n_quarantined: int
    """Clips that were left out as there are no features of them."""

    @property
    def best(self) -> Mapping[str, float]:
        """The best epoch's row of the history."""
        return find_best(self.history)


def fit(
    params: Params,
    features: Features,
    manifest: pd.DataFrame,
    splits: pd.DataFrame,
    state: Path,
    tracker: Tracker,
    source: Path | None = None,
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
    source
        A checkpoint to start from.

    Raises
    ------
    DatasetError
        When a split is empty, a label is in validation only, or a clip that is not in quarantine has no features.
    ParamsError
        When the model needs windows of one length, and each clip has its own; when the source is another model; when
        an augmentation changes waveforms, and none are kept.
    StepError
        When training diverges.
    """
    state.mkdir(parents=True, exist_ok=True)
    selection, first = _select(params, features, manifest, splits), find_world().is_first
    if is_fitted(params):
        told = tracker if first else NullTracker()
        told.log_params(selection.describe())
        history, n_numbers = fit_at_once(params, selection, state, told)
        return FitResult(state / BEST, selection.targets, history, [], n_numbers, n_numbers, selection.n_quarantined)
    learning = _prepare(params, selection, source)
    history = read_history(state / LAST) if (state / LAST).exists() else []
    if first:
        tracker.log_params(learning.describe())
        # A killed run may not have told these; telling them twice does no harm.
        for row in history:
            tracker.log_metrics({k: v for k, v in row.items() if k != "epoch"}, step=int(row["epoch"]))
    if not is_finished(history, params.training):
        history = _train(params, learning, state, tracker if first else NullTracker())
    return FitResult(
        state / BEST,
        learning.targets,
        history,
        read_pretraining(state),
        learning.n_parameters,
        learning.network.n_parameters,
        learning.n_quarantined,
    )


def train_on(
    params: Params, features: Features, manifest: pd.DataFrame, splits: pd.DataFrame, state: Path, network: Network
) -> Network:
    """Train a network that has been trained before, and return it with the weights of the best epoch.

    It is taken as it is: nothing is pretrained, and its standardisation stays. The arguments are those of `fit`, which
    says what is raised, too; no tracker is told.

    Parameters
    ----------
    network
        What is trained.
    """
    state.mkdir(parents=True, exist_ok=True)
    selection = _select(params, features, manifest, splits)
    learning = _complete(params, selection, network.train(), network.n_parameters)
    history = read_history(state / LAST) if (state / LAST).exists() else []
    if not is_finished(history, params.training):
        _train(params, learning, state, NullTracker())
    weights = torch.load(state / BEST, map_location="cpu", weights_only=True)["state_dict"]
    network.load_state_dict({name.removeprefix("network."): value for name, value in weights.items()})
    return network.eval()


@dataclass(frozen=True)
class _Learning(Selection):
    """What is learned from which windows, and by which network."""

    network: Network
    classes: NDArray[np.int64] | None
    """The class of each training window where they are to be drawn alike."""
    silence: NDArray[np.float32] | None
    """What follows shorter windows in a batch, (bins,); None where all are of one length."""
    n_parameters: int

    def describe(self) -> dict[str, Any]:
        """Return what a tracker is told before the first epoch."""
        counts: dict[str, float] = {"n_parameters": self.n_parameters}
        n_trained = self.network.n_parameters
        if n_trained != self.n_parameters:
            counts |= {"n_trained": n_trained, "trained_share": round(n_trained / self.n_parameters, 4)}
        return counts | super().describe()


def _select(params: Params, features: Features, manifest: pd.DataFrame, splits: pd.DataFrame) -> Selection:
    task, task_params = load_plugin("tasks", params.task.name), params.plugin_section("tasks")
    usable = manifest[~manifest["clip_id"].isin(list(features.quarantined))]
    train_clips, validation_clips = (_clips_of(usable, splits, name) for name in ("train", "validation"))
    targets = task.fit_targets(task_params, train_clips)
    frame_s = seconds_per_frame(params.features.name, params.plugin_section("features"))
    train, validation = (
        encode_along_time(
            select_windows(
                features,
                list(clips["clip_id"]),
                task.encode_targets(task_params, targets, clips),
                task.truth(targets, clips),
            ),
            task,
            task_params,
            targets,
            frame_s,
        )
        for clips in (train_clips, validation_clips)
    )
    return Selection(task, task_params, targets, train, validation, len(manifest) - len(usable))


def _prepare(params: Params, selection: Selection, source: Path | None) -> _Learning:
    train = selection.train
    network = build_network(params, selection.targets, train.features.shape)
    network.set_standardisation(*measure_bins(train))
    n_parameters = network.n_parameters
    if source is not None:
        start_from(network, source, params, selection.targets)
    restrict(network, params.training, derive_seed(params.seed, "adapt"))
    return _complete(params, selection, network, n_parameters)


def _complete(params: Params, selection: Selection, network: Network, n_parameters: int) -> _Learning:
    train, features = selection.train, selection.train.features
    # Processors run convolutions sooner with a pixel's channels side by side.
    convert_conv2d_weight_memory_format(network, torch.channels_last)
    classes = find_classes(selection.task, train)[train.clips] if params.training.sampling == "balanced" else None
    if params.training.class_weights == "balanced":
        weighed, validation = add_weights(selection.task, train, selection.validation)
        selection = replace(selection, train=weighed, validation=validation)
    silence = silent_bins(params) if features.shape[1] is None else None
    return _Learning(**vars(selection), network=network, classes=classes, silence=silence, n_parameters=n_parameters)


def _clips_of(manifest: pd.DataFrame, splits: pd.DataFrame, name: str) -> pd.DataFrame:
    chosen = manifest[manifest["clip_id"].isin(splits.loc[splits["split"] == name, "clip_id"])]
    if chosen.empty:
        raise DatasetError(
            f"The split {name!r} has no clips, and training needs some. Raise split.validation_share, "
            "add recordings, or choose another split.group; then: audioml run split"
        )
    return chosen


def _train(params: Params, learning: _Learning, state: Path, tracker: Tracker) -> History:
    training, network = params.training, learning.network
    keeper = EpochKeeper(state, training, tracker, describe_network(params, learning.targets))
    callbacks: list[pl.Callback] = [keeper]
    if training.average != "none":
        callbacks.append(WeightAverage(training))
    if find_world().is_first:
        callbacks.append(ProgressLines(training.max_epochs))
    trainer = make_trainer(training, state, callbacks, training.max_epochs, all_used=True)
    augmenter = Augmenter(params)
    train, validation = _make_loaders(learning, training.batch_size, params.seed, trainer, augmenter.needs_audio)
    last = state / LAST
    if pretrain_epochs(params, network) and not last.exists():
        pretrain(params, network, WindowLoader(learning.train, train.order, train.silence), state, tracker)
    module = TrainingModule(
        network,
        learning.task,
        learning.task_params,
        learning.targets,
        augmenter,
        training,
        learning.validation,
        len(train),
        params.seed,
    )
    with quiet(LIGHTNING, NOISE):
        trainer.fit(module, train, validation, ckpt_path=last if last.exists() else None, weights_only=True)
    return keeper.history


def _make_loaders(
    learning: _Learning, batch_size: int, seed: int, trainer: pl.Trainer, with_audio: bool
) -> tuple[WindowLoader, WindowLoader]:
    """Return the loaders of this process. In validation each gets whole clips, and nothing is padded."""
    rank, n_ranks = trainer.global_rank, trainer.world_size
    pin_memory = trainer.strategy.root_device.type == "cuda"
    train, validation = learning.train, learning.validation
    of_windows = (train.frames, train.shards, train.window_bytes)
    shuffled = ShuffledOrder(*of_windows, batch_size, seed, rank, n_ranks, learning.classes)
    stored = StoredOrder(validation.frames, np.flatnonzero(validation.clips % n_ranks == rank), batch_size)
    return (
        WindowLoader(train, shuffled, learning.silence, pin_memory, with_audio),
        WindowLoader(validation, stored, pin_memory=pin_memory),
    )


def silent_bins(params: Params) -> NDArray[np.float32]:
    """Return what the feature makes of silence, one number a bin, float32 (bins,)."""
    section = params.plugin_section("features")
    silence = np.zeros((1, window_samples(section)), np.float32)
    features: NDArray[np.float32] = load_plugin("features", params.features.name).extract(section, silence)
    return features[0, :, features.shape[2] // 2]
