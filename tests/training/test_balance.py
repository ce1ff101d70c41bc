from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from audioml.augment import mixup
from audioml.errors import ParamsError
from audioml.params import Params
from audioml.tasks import classification
from audioml.training.balance import add_weights, find_classes, mean_loss, split_weights
from audioml.training.data import Windows
from audioml.training.fit import fit
from audioml.training.order import ShuffledOrder, draw_repeats
from audioml.training.tracker import MemoryTracker

from ._small import small_params
from ._synthetic import make_data

RARE = np.array([0] * 14 + [1] * 5 + [2], np.int64)


def make_windows(truth: np.ndarray, windows_per_clip: int = 1) -> Windows:
    features = make_data(len(truth), windows_per_clip)[0]
    n = len(truth) * windows_per_clip
    targets = np.eye(int(truth.max()) + 1, dtype=np.float32)[truth]
    return Windows(features, np.arange(n), np.repeat(np.arange(len(truth)), windows_per_clip), targets, truth)


def test_weights_are_those_of_scikit_learn() -> None:
    train, validation = add_weights(classification, make_windows(RARE, 2), make_windows(np.array([2, 0, 1])))
    expected = compute_class_weight("balanced", classes=np.arange(3), y=RARE)
    np.testing.assert_allclose(train.targets[:, 3], expected[RARE], rtol=1e-6)
    np.testing.assert_allclose(validation.targets[:, 3], expected[[2, 0, 1]], rtol=1e-6)
    np.testing.assert_array_equal(train.targets[:, :3], np.eye(3)[RARE])


def test_the_weighted_loss_is_that_of_torch_but_for_its_divisor() -> None:
    params = classification.Params(label_smoothing=0.0)
    train, _ = add_weights(classification, make_windows(RARE), make_windows(RARE))
    targets, weights = split_weights(torch.from_numpy(train.targets))
    outputs = torch.randn(len(RARE), 3, generator=torch.Generator().manual_seed(0))
    by_class = torch.tensor([weights[k == RARE][0] for k in range(3)])
    expected = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(RARE), weight=by_class, reduction="sum")
    found = mean_loss(classification.losses(params, outputs, targets), weights)
    assert float(found) == pytest.approx(float(expected) / len(RARE), rel=1e-5)


def test_weights_mix_as_targets_do() -> None:
    train, _ = add_weights(classification, make_windows(RARE), make_windows(RARE))
    generator = torch.Generator().manual_seed(0)
    features = torch.zeros(len(RARE), 2, 2)
    _, mixed = mixup.apply(mixup.Params(alpha=1.0, share=1.0), features, torch.from_numpy(train.targets), generator)
    targets, weights = split_weights(mixed)
    by_class = compute_class_weight("balanced", classes=np.arange(3), y=RARE)
    np.testing.assert_allclose(weights.numpy(), targets.numpy() @ by_class, rtol=1e-5)
    assert len(weights.unique()) > 3


def test_targets_of_each_frame_carry_a_weight_too() -> None:
    windows = make_windows(RARE)
    of_frames = Windows(windows.features, windows.rows, windows.clips, np.ones((20, 7, 3), np.float32), windows.truth)
    train, _ = add_weights(classification, of_frames, of_frames)
    targets, weights = split_weights(torch.from_numpy(train.targets))
    assert targets.shape == (20, 7, 3)
    assert weights[-1] == pytest.approx(20 / 3)


def test_an_epoch_has_as_many_windows_and_each_class_alike() -> None:
    repeats = draw_repeats(RARE, np.random.default_rng(0))
    drawn = np.bincount(RARE, repeats)
    assert drawn.sum() == 20
    assert drawn.max() - drawn.min() <= 1
    for label in range(3):
        assert np.ptp(repeats[label == RARE]) <= 1


def test_balanced_order_is_shared_by_processes_and_differs_by_epoch() -> None:
    frames, shards = np.full(60, 5, np.int32), np.repeat(np.arange(3), 20)
    classes = np.tile(RARE, 3)

    def order(rank: int, n_ranks: int, batch_size: int) -> ShuffledOrder:
        return ShuffledOrder(frames, shards, 100, batch_size, 1, rank, n_ranks, classes)

    whole = np.concatenate(list(order(0, 1, 8).batches(0)))
    assert np.bincount(classes[whole]).tolist() == [20, 20, 20]
    shared = [np.concatenate(list(order(rank, 2, 4).batches(0))) for rank in (0, 1)]
    assert sorted(np.concatenate(shared).tolist()) == sorted(whole.tolist())
    assert sorted(np.concatenate(list(order(0, 1, 8).batches(1))).tolist()) != sorted(whole.tolist())


def test_a_task_may_name_the_classes_itself() -> None:
    task = ModuleType("audioml.tasks.other")
    windows = make_windows(RARE)
    several = Windows(windows.features, windows.rows, windows.clips, windows.targets, np.eye(3, dtype=bool)[RARE])
    with pytest.raises(ParamsError, match="task 'other' has no classes to balance"):
        find_classes(task, several)
    with pytest.raises(ParamsError, match="task 'other' can't weigh single windows"):
        add_weights(task, several, several)
    task.classes = lambda truth: truth.argmax(axis=1)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(find_classes(task, several), RARE)


@pytest.mark.parametrize("params", [small_params(class_weights="balanced"), small_params(sampling="balanced")])
def test_a_fit_with_rare_classes(tmp_path: Path, params: Params) -> None:
    features, manifest, splits = make_data(30)
    rare = manifest[(manifest["label"] == "low") & (splits["split"] == "train")].index[2:]
    manifest, splits = manifest.drop(rare), splits.drop(rare)
    result = fit(params, features, manifest, splits, tmp_path, MemoryTracker())
    plain = fit(small_params(), features, manifest, splits, tmp_path / "plain", MemoryTracker())
    assert result.history[0]["train_loss"] != plain.history[0]["train_loss"]
