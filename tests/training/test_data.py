from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioml.training.data import ShuffledBatches, measure_bins, select_windows, train_loader, validation_loader

from ._synthetic import make_data


def make_windows(windows_per_clip: int = 2):
    features, manifest, _ = make_data(10, windows_per_clip)
    chosen = manifest.iloc[[7, 2, 5]]
    targets = np.array([[7.0], [2.0], [5.0]], np.float32)
    return features, select_windows(features, list(chosen["clip_id"]), targets, np.array([7, 2, 5]))


def test_select_windows_keeps_stored_order_and_knows_each_clip() -> None:
    _, windows = make_windows()
    assert windows.rows.tolist() == [4, 5, 10, 11, 14, 15]
    assert windows.truth[windows.clips].tolist() == [2, 2, 5, 5, 7, 7]


def test_measure_bins_is_that_of_all_chosen_windows() -> None:
    features, windows = make_windows()
    chosen = features.windows[windows.rows].astype(np.float64)
    mean, std = measure_bins(windows)
    np.testing.assert_allclose(mean, chosen.mean(axis=(0, 2)), rtol=1e-5)
    np.testing.assert_allclose(std, chosen.std(axis=(0, 2)), rtol=1e-4)


def test_measure_bins_of_constant_bins_is_not_zero() -> None:
    features, windows = make_windows()
    features.windows[:] = -100.0
    assert (measure_bins(windows)[1] > 0).all()


def test_batches_carry_targets_of_their_windows() -> None:
    features, windows = make_windows()
    for x, targets, clips in train_loader(windows, 0, 0, 4):
        assert x.shape[1:] == features.shape
        for feature, target, clip in zip(x, targets, clips, strict=True):
            row = next(i for i, w in enumerate(features.windows) if np.array_equal(w, feature.numpy()))
            assert features.clip_ids[row] == f"clip{int(target):03d}"
            assert windows.truth[clip] == int(target)


@given(st.integers(1, 200), st.integers(2, 64), st.integers(1, 4), st.integers(0, 5))
def test_shuffled_batches_cover_all_once_and_are_even(n: int, batch_size: int, n_ranks: int, epoch: int) -> None:
    seen: list[int] = []
    counts = set()
    for rank in range(n_ranks):
        sampler = ShuffledBatches(n, batch_size, 1, epoch, rank, n_ranks)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        sizes = {len(batch) for batch in batches}
        assert max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
        counts.add(sum(map(len, batches)))
        seen += [i for batch in batches for i in batch]
    assert set(seen) == set(range(n))
    assert len(counts) == 1
    assert len(seen) - n < n_ranks


def test_order_follows_from_seed_and_epoch() -> None:
    sampler = ShuffledBatches(50, 8, seed=1)
    first = list(sampler)
    sampler.set_epoch(3)
    assert list(sampler) != first
    assert list(ShuffledBatches(50, 8, seed=1, first_epoch=3)) == list(sampler)
    assert list(ShuffledBatches(50, 8, seed=2, first_epoch=3)) != list(sampler)


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 5])
def test_validation_gives_each_process_whole_clips(n_ranks: int) -> None:
    _, windows = make_windows()
    seen = [
        {int(clip) for _, _, clips in validation_loader(windows, 2, rank, n_ranks) for clip in clips}
        for rank in range(n_ranks)
    ]
    assert sorted(clip for clips in seen for clip in clips) == [0, 1, 2]
