from __future__ import annotations

import numpy as np
import pytest

from audioml.errors import DatasetError
from audioml.training.data import Windows, measure_bins, select_windows

from ._synthetic import MemoryFeatures, make_data


def make_windows(frames: tuple[int, ...] = (20,)) -> tuple[MemoryFeatures, Windows]:
    features, manifest, _ = make_data(10, windows_per_clip=2, frames=frames)
    chosen = manifest.iloc[[7, 2, 5]]
    targets = np.array([[7.0], [2.0], [5.0]], np.float32)
    return features, select_windows(features, list(chosen["clip_id"]), targets, np.array([7, 2, 5]))


def test_select_windows_keeps_stored_order_and_knows_each_clip() -> None:
    _, windows = make_windows(frames=(20, 30, 40))
    assert windows.rows.tolist() == [4, 5, 10, 11, 14, 15]
    assert windows.truth[windows.clips].tolist() == [2, 2, 5, 5, 7, 7]
    assert windows.frames.tolist() == [30, 40, 30, 40, 40, 20]
    assert windows.shards.tolist() == [0, 0, 0, 0, 1, 1]


def test_a_clip_without_features_is_named() -> None:
    features, _ = make_windows()
    with pytest.raises(DatasetError, match="1 of 2 clips have no features, such as other"):
        select_windows(features, ["clip001", "other"], np.zeros((2, 1)), np.zeros(2))


@pytest.mark.parametrize("frames", [(20,), (20, 30, 44)])
def test_measure_bins_is_that_of_all_chosen_windows(frames: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audioml.training.data.READ_BYTES", 3000)
    features, windows = make_windows(frames)
    chosen = np.concatenate([features.windows[row] for row in windows.rows], axis=1).astype(np.float64)
    mean, std = measure_bins(windows)
    np.testing.assert_allclose(mean, chosen.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(std, chosen.std(axis=1), rtol=1e-4)


def test_measure_bins_of_constant_bins_is_not_zero() -> None:
    features, windows = make_windows()
    for window in features.windows:
        window[:] = -100.0
    assert (measure_bins(windows)[1] > 0).all()
