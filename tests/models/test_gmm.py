from __future__ import annotations

import numpy as np
import torch

from audioml.models import gmm

from ._fitted import BINS, build_model, fit_model, make_batches, predict


def test_likelihoods_are_those_of_sklearn() -> None:
    from scipy.special import softmax
    from sklearn.mixture import GaussianMixture

    params = gmm.Params(components=3)
    ((features, labels),) = batches = make_batches()
    ((others, _),) = make_batches(n=7, seed=1)
    state = fit_model(gmm, params, batches, seed=4)
    model = build_model(gmm, params, state)
    expected = np.empty((7, 3))
    for label in range(3):
        frames = features[labels == label].transpose(0, 2, 1).reshape(-1, BINS)
        mixture = GaussianMixture(3, covariance_type="diag", reg_covar=0.01, random_state=4)
        mixture.fit((frames - state["mean"].T) / state["std"].T)
        for i, window in enumerate(others):
            expected[i, label] = mixture.score((window.T - state["mean"].T) / state["std"].T)
    found = model.measure_likelihoods(torch.from_numpy(others)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(predict(model, others), softmax(state["factor"] * expected, axis=1), atol=1e-4)


def test_frames_are_standardised_over_all_labels() -> None:
    ((features, _),) = batches = make_batches()
    state = fit_model(gmm, gmm.Params(components=1), batches)
    np.testing.assert_allclose(state["mean"][:, 0], features.mean(axis=(0, 2)), rtol=1e-5)
    np.testing.assert_allclose(state["std"][:, 0], features.std(axis=(0, 2)), rtol=1e-5)
    np.testing.assert_allclose(state["variances"].mean(), 1 + 0.01, atol=0.5)


def test_a_share_of_frames_is_drawn_where_there_are_many() -> None:
    batches = make_batches()
    drawn = gmm._draw_frames(gmm.Params(max_frames=100), batches, 3, seed=0)
    assert all(70 < len(frames) < 130 for frames in drawn)
    everything = gmm._draw_frames(gmm.Params(), batches, 3, seed=0)
    assert [len(frames) for frames in everything] == [20 * 20] * 3


def test_a_label_of_few_frames_has_few_components() -> None:
    state = fit_model(gmm, gmm.Params(components=16), make_batches(n=3, frames=(4,)))
    assert state["centres"].shape == (3, 4, BINS)
