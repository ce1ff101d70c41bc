"""What holds for every model that is fitted without gradient descent."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from audioml.plugins import load_plugin, plugin_names
from audioml.training.export import export_onnx
from audioml.training.network import Network

from ._fitted import BINS, build_model, fit_model, make_batches, predict

SMALL: dict[str, dict[str, Any]] = {
    "dbn": {"parts": 2, "layers": (24, 12), "epochs": 5},
    "dtw": {"templates": 2, "max_frames": 6},
    "forest": {"parts": 2, "trees": 20, "max_depth": 4},
    "gmm": {"components": 2},
    "knn": {"parts": 2},
    "svm": {"parts": 2},
    "tree": {"parts": 2, "max_depth": 4},
}


@pytest.fixture(params=SMALL)
def model(request: pytest.FixtureRequest) -> tuple[ModuleType, Any]:
    plugin = load_plugin("models", request.param)
    return plugin, plugin.Params(**SMALL[request.param])


def test_these_are_all() -> None:
    fitted = [name for name in plugin_names("models") if hasattr(load_plugin("models", name), "fit")]
    assert fitted == sorted(SMALL)


@pytest.mark.parametrize("n_labels", [2, 3])
def test_log_probabilities_are_right_on_windows_that_were_not_seen(model: Any, n_labels: int) -> None:
    state = fit_model(*model, make_batches(n_labels=n_labels), n_labels)
    ((others, labels),) = make_batches(n=30, n_labels=n_labels, seed=1)
    probabilities = predict(build_model(*model, state), others)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-4)
    assert np.mean(probabilities.argmax(axis=1) == labels) > 0.8


def test_the_same_seed_gives_the_same(model: Any) -> None:
    one, same = (fit_model(*model, make_batches(), seed=3) for _ in range(2))
    assert one.keys() == same.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], same[name])


def test_onnx_gives_what_torch_gives(model: Any, tmp_path: Path) -> None:
    any_frames = not getattr(model[0], "FIXED_FRAMES", False)
    batches = make_batches(frames=(20, 9, 1) if any_frames else (20,))
    network = Network(build_model(*model, fit_model(*model, batches)), torch.nn.Identity(), BINS)
    examples = [torch.from_numpy(features[:7]) for features, _ in batches]
    assert export_onnx(network, examples, tmp_path / "model.onnx", any_frames=any_frames) < 1e-4


def test_windows_do_not_influence_each_other(model: Any) -> None:
    ((features, _),) = batches = make_batches()
    built = build_model(*model, fit_model(*model, batches))
    np.testing.assert_allclose(predict(built, features[3:4]), predict(built, features)[3:4], atol=1e-5)


def test_gradients_are_finite_even_in_silence(model: Any) -> None:
    """What explains a prediction asks for them; decisions of trees have none."""
    built = build_model(*model, fit_model(*model, make_batches()))
    features = torch.full((2, BINS, 20), -100.0, requires_grad=True)
    outputs = built(features)
    if outputs.requires_grad:
        outputs[:, 0].sum().backward()
        assert torch.isfinite(features.grad).all()
    assert outputs.requires_grad == (not model[0].__name__.endswith(("tree", "forest")))
