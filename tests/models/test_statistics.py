from __future__ import annotations

import numpy as np
import pytest
import torch

from audioml.models._statistics import StatisticsParams, clip_statistics, draw_windows, fit_statistics


def describe(window: np.ndarray, changes: np.ndarray) -> np.ndarray:
    return np.concatenate([window.mean(1), window.std(1), window.min(1), window.max(1), changes.mean(1)])


@pytest.mark.parametrize(("frames", "parts"), [(12, 1), (12, 3), (14, 3), (2, 3), (1, 2)])
def test_statistics_are_those_of_numpy_in_each_part(frames: int, parts: int) -> None:
    window = np.random.default_rng(0).normal(-40, 9, (5, frames)).astype(np.float32)
    changes = np.abs(np.diff(window, axis=1, prepend=window[:, :1]))
    bounds = [(part * frames // parts, -(-(part + 1) * frames // parts)) for part in range(parts)]
    expected = np.concatenate([describe(window[:, a:b], changes[:, a:b]) for a, b in bounds])
    found = clip_statistics(torch.from_numpy(window[None]), parts)[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_windows_of_all_batches_are_standardised_together_and_what_never_changes_stays_small() -> None:
    generator = np.random.default_rng(0)
    batches = [(generator.normal(3, 2, (8, 4, f)).astype(np.float32), np.arange(8) % 2) for f in (9, 5)]
    for features, _ in batches:
        features[:, 2] = -100.0 + 1e-5 * generator.normal(size=features[:, 2].shape)
    statistics, labels, state = fit_statistics(StatisticsParams(parts=2), batches)
    changing = state["scale"] > 2e-3
    assert statistics.shape == (16, 2 * 5 * 4)
    assert changing.sum() == 2 * 5 * 3
    np.testing.assert_allclose(statistics.mean(axis=0), 0, atol=2e-2)
    np.testing.assert_allclose(statistics[:, changing].std(axis=0), 1, atol=1e-4)
    assert np.abs(statistics[:, ~changing]).max() < 0.1
    assert labels.tolist() == [0, 1] * 8


def test_a_drawn_share_keeps_every_label(caplog: pytest.LogCaptureFixture) -> None:
    labels = np.array([0] * 900 + [1] * 90 + [2])
    drawn = draw_windows(labels, 100, seed=1)
    assert np.bincount(labels[drawn]).tolist() == [91, 9, 1]
    assert (np.diff(drawn) > 0).all()
    assert "100 of 991 windows are kept" in caplog.text
    np.testing.assert_array_equal(drawn, draw_windows(labels, 100, seed=1))
    assert drawn.tolist() != draw_windows(labels, 100, seed=2).tolist()
    np.testing.assert_array_equal(draw_windows(labels, 991, seed=1), np.arange(991))
