from __future__ import annotations

import numpy as np
import pytest

from audioml.models import knn

from ._fitted import build_model, fit_model, make_batches, predict, standardised


@pytest.mark.parametrize(("neighbours", "n_labels"), [(1, 2), (5, 3)])
def test_probabilities_are_those_of_sklearn(neighbours: int, n_labels: int) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    params = knn.Params(neighbours=neighbours)
    batches = make_batches(n_labels=n_labels)
    (features, labels), ((others, _),) = batches[0], make_batches(n_labels=n_labels, seed=1)
    state = fit_model(knn, params, batches, n_labels)
    theirs = KNeighborsClassifier(neighbours, weights=lambda distance: 1 / (1 + distance))
    theirs.fit(standardised(state, features, params.parts), labels)
    expected = theirs.predict_proba(standardised(state, others, params.parts))
    np.testing.assert_allclose(predict(build_model(knn, params, state), others), expected, atol=1e-5)


def test_a_window_that_is_known_votes_most_for_itself() -> None:
    params = knn.Params(neighbours=3)
    ((features, labels),) = batches = make_batches()
    probabilities = predict(build_model(knn, params, fit_model(knn, params, batches)), features)
    np.testing.assert_array_equal(probabilities.argmax(axis=1), labels)


def test_no_more_windows_are_held_than_allowed() -> None:
    params = knn.Params(max_windows=12, neighbours=50)
    state = fit_model(knn, params, make_batches())
    assert len(state["known"]) == 12
    assert state["votes"].sum(axis=0).tolist() == [4, 4, 4]
    ((others, _),) = make_batches(n=5, seed=1)
    assert predict(build_model(knn, params, state), others).sum(axis=1) == pytest.approx(np.ones(5))
