from __future__ import annotations

import numpy as np
import pytest
import torch

from audioml.models import dtw

from ._fitted import BINS, build_model, fit_model, make_batches, predict


@pytest.mark.parametrize("frames", [1, 2, 9, 24, 25])
@pytest.mark.parametrize("band", [0.01, 0.1, 0.2, 0.35, 0.5])
def test_costs_are_those_of_librosa(frames: int, band: float) -> None:
    import librosa

    generator = np.random.default_rng(frames)
    windows, templates = (generator.normal(size=(n, BINS, frames)).astype(np.float32) for n in (3, 2))
    radius = dtw._radius(dtw.Params(band=band), frames)
    found = dtw.Warping(frames, radius)(torch.from_numpy(windows), torch.from_numpy(templates)).numpy()
    # librosa rounds half to even as well, and its radius must be one cell at least.
    share = radius / frames
    for i, window in enumerate(windows):
        for k, template in enumerate(templates):
            costs = librosa.sequence.dtw(
                window,
                template,
                weights_mul=np.array([2.0, 1.0, 1.0]),
                step_sizes_sigma=np.array([[1, 1], [0, 1], [1, 0]]),
                global_constraints=True,
                band_rad=share,
                backtrack=False,
            )
            assert found[i, k] * 2 * frames == pytest.approx(costs[-1, -1], rel=1e-5)


def test_equal_windows_are_at_no_distance_and_slower_ones_near() -> None:
    time = np.linspace(0, 1, 40, dtype=np.float32)
    steady, late = np.sin(9 * time)[None], np.sin(9 * time**1.3)[None]
    other = np.cos(5 * time)[None]
    windows = torch.from_numpy(np.stack([steady, late, other]))
    same, slower, different = dtw.Warping(40, 10)(windows, windows[:1])[:, 0].tolist()
    straight = float((windows[1] - windows[0]).abs().mean())
    assert same < 1e-5
    assert slower < 0.3 * straight
    assert different > 2 * slower


def test_medoids_are_the_middles_of_groups() -> None:
    places = np.array([0.0, 1.0, 2.0, 50.0, 51.0, 52.0, 53.0, 54.0])
    costs = np.abs(places[:, None] - places).astype(np.float32)
    assert sorted(places[dtw.choose_medoids(costs, 3)[:3]].tolist())[0] in (0.0, 1.0, 2.0)
    assert places[dtw.choose_medoids(costs, 1)].tolist() == [50.0]
    assert sorted(dtw.choose_medoids(costs, 99).tolist()) == list(range(8))


def test_probabilities_are_shares_of_densities() -> None:
    params = dtw.Params(templates=2, max_frames=10, band=0.2)
    ((others, labels),) = make_batches(n=9, seed=1)
    state = fit_model(dtw, params, make_batches())
    windows = (others.reshape(9, BINS, 10, 2).mean(axis=3) - state["mean"]) / state["std"]
    costs = dtw.Warping(10, 2)(torch.from_numpy(windows), torch.from_numpy(state["templates"])).numpy()
    densities = np.exp(-state["factor"].astype(np.float64) * costs).reshape(9, 3, 2).mean(axis=2)
    expected = densities / densities.sum(axis=1, keepdims=True)
    probabilities = predict(build_model(dtw, params, state), others)
    np.testing.assert_allclose(probabilities, expected, atol=1e-4)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), labels)


def test_templates_are_training_windows_of_their_labels() -> None:
    params = dtw.Params(templates=3, candidates=10)
    ((features, labels),) = batches = make_batches()
    state = fit_model(dtw, params, batches)
    known = (features - state["mean"]) / state["std"]
    for template, of_label in zip(state["templates"], state["is_of_label"].T, strict=True):
        (position,) = np.flatnonzero(np.isclose(known, template, atol=1e-4).all(axis=(1, 2)))
        assert np.flatnonzero(of_label).tolist() == [labels[position]]


def test_where_all_windows_are_templates_there_is_still_a_factor() -> None:
    state = fit_model(dtw, dtw.Params(templates=50), make_batches(n=6))
    assert state["templates"].shape == (6, BINS, 20)
    assert np.isfinite(state["factor"])
