from __future__ import annotations

import numpy as np
import pytest

from audioml.models import forest, tree
from audioml.models._trees import _round_down

from ._fitted import build_model, fit_model, make_batches, predict, standardised


@pytest.mark.parametrize(("plugin", "n_labels"), [(tree, 3), (forest, 2), (forest, 3)])
def test_probabilities_are_those_of_sklearn(plugin, n_labels) -> None:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.tree import DecisionTreeClassifier

    batches = make_batches(n_labels=n_labels)
    (features, labels), ((others, _),) = batches[0], make_batches(n_labels=n_labels, seed=1)
    if plugin is tree:
        params = tree.Params(max_depth=4, min_leaf_windows=2)
        theirs = DecisionTreeClassifier(max_depth=4, min_samples_leaf=2, random_state=5)
    else:
        params = forest.Params(trees=7, max_depth=5, max_leaves=9)
        theirs = RandomForestClassifier(7, max_depth=5, max_leaf_nodes=9, random_state=5)
    state = fit_model(plugin, params, batches, n_labels, seed=5)
    theirs.fit(np.round(standardised(state, features, params.parts), 2), labels)
    model = build_model(plugin, params, state)
    for windows in (features, others):
        expected = theirs.predict_proba(standardised(state, windows, params.parts))
        np.testing.assert_allclose(predict(model, windows), expected, atol=1e-5)


def test_thresholds_in_float32_decide_as_in_float64() -> None:
    generator = np.random.default_rng(0)
    thresholds = generator.normal(size=1000)
    values = np.concatenate([thresholds.astype(np.float32), np.nextafter(thresholds.astype(np.float32), np.float32(9))])
    rounded = _round_down(thresholds)
    assert rounded.dtype == np.float32
    np.testing.assert_array_equal(values <= np.tile(rounded, 2), values <= np.tile(thresholds, 2))


def test_a_tree_that_need_not_split_knows_the_shares_of_labels() -> None:
    params = tree.Params(min_leaf_windows=60)
    (features, _), *_ = batches = make_batches()
    probabilities = predict(build_model(tree, params, fit_model(tree, params, batches)), features[:2])
    np.testing.assert_allclose(probabilities, np.full((2, 3), 1 / 3), atol=1e-6)
