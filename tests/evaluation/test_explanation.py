"""Integrated gradients against closed forms."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from torch import nn

from audioml.evaluation.explanation import AGAINST, FOR, MAX_FRAMES, attribute, choose_clips, draw_attribution
from audioml.training.network import Network

BINS, FRAMES = 10, 15
MEAN = np.linspace(-60, -40, BINS).astype(np.float32)


def make_network(model: nn.Module, head: nn.Module) -> Network:
    network = Network(model, head, BINS)
    network.set_standardisation(MEAN, np.full(BINS, 4, np.float32))
    return network.eval()


def linear_head() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(BINS * FRAMES, 3)


@pytest.fixture
def window() -> np.ndarray:
    return np.random.default_rng(0).normal(-50, 8, (BINS, FRAMES)).astype(np.float32)


def test_of_a_linear_network_they_are_weight_times_distance_from_the_mean(window: np.ndarray) -> None:
    head = linear_head()
    found = attribute(make_network(nn.Flatten(), head), window, target=2)
    weights = head.weight[2].detach().numpy().reshape(BINS, FRAMES)
    np.testing.assert_allclose(found, weights * (window - MEAN[:, None]) / 4, atol=1e-4)


def test_their_sum_is_what_the_output_gains_over_the_baseline(window: np.ndarray) -> None:
    network = make_network(nn.Sequential(nn.Flatten(), nn.Linear(BINS * FRAMES, 16), nn.Tanh()), nn.Linear(16, 3))
    with torch.no_grad():
        ends = torch.from_numpy(np.stack([window, np.repeat(MEAN[:, None], FRAMES, axis=1)]))
        gained = float(torch.diff(network(ends)[:, 1].flip(0)))
    found = attribute(network, window, target=1)
    assert found.sum() == pytest.approx(gained, abs=2e-3)


def test_half_are_mistakes_and_the_rest_one_right_clip_a_label() -> None:
    labels = ["b", "a", "b", "a", "c", "c"]
    confidence = [0.9, 0.6, 0.95, 0.7, 0.8, 0.99]
    wrong = np.array([5, 0])
    assert choose_clips(labels, wrong, confidence, 8) == [5, 0, 3, 2, 4]
    assert choose_clips(labels, wrong, confidence, 2) == [5, 3]
    assert choose_clips(labels, np.arange(6), confidence, 4) == [0, 1]
    assert choose_clips(labels, np.empty(0, np.int64), confidence, 8) == [3, 2, 5]


def test_the_picture_shows_where_and_which_way() -> None:
    attribution = np.zeros((10, 20), np.float32)
    attribution[1, 3], attribution[8, 15] = 1.0, -1.0
    picture = imread(io.BytesIO(draw_attribution(np.zeros((10, 20), np.float32), attribution)), format="png")
    height, width = picture.shape[0] // 10, picture.shape[1] // 20

    def point(band: int, frame: int) -> np.ndarray:
        # Low bands are below.
        return picture[(9 - band) * height + height // 2, frame * width + width // 2, :3]

    np.testing.assert_allclose(point(1, 3), 0.85 * FOR, atol=0.06)
    np.testing.assert_allclose(point(8, 15), 0.85 * AGAINST, atol=0.06)
    assert point(5, 9).max() < 0.2


def test_a_long_window_makes_a_picture_of_bounded_size() -> None:
    long = np.random.default_rng(0).normal(size=(12, 5000)).astype(np.float32)
    picture = imread(io.BytesIO(draw_attribution(long, long)), format="png")
    assert picture.shape[1] <= MAX_FRAMES
