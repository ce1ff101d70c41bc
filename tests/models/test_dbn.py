from __future__ import annotations

import numpy as np
import pytest

from audioml.models import dbn

from ._fitted import build_model, fit_model, make_batches, predict, standardised


@pytest.mark.parametrize("n_labels", [2, 3])
def test_probabilities_are_those_of_sklearn(n_labels: int) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import BernoulliRBM
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    params = dbn.Params(layers=(12, 8), epochs=4, batch_size=16, learning_rate=0.05)
    batches = make_batches(n_labels=n_labels)
    (features, labels), ((others, _),) = batches[0], make_batches(n_labels=n_labels, seed=1)
    state = fit_model(dbn, params, batches, n_labels, seed=7)
    lower, upper = (
        make_pipeline(
            MinMaxScaler(clip=True), BernoulliRBM(n, learning_rate=0.05, batch_size=16, n_iter=4, random_state=s)
        )
        for n, s in ((12, 7), (8, 8))
    )
    known = lower.fit_transform(standardised(state, features, params.parts))
    known = np.hstack([known, upper.fit_transform(known)])
    new = lower.transform(standardised(state, others, params.parts))
    new = np.hstack([new, upper.transform(new)])
    theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(known, labels)
    np.testing.assert_allclose(predict(build_model(dbn, params, state), others), theirs.predict_proba(new), atol=1e-4)


def test_each_machine_has_its_units() -> None:
    state = fit_model(dbn, dbn.Params(layers=(12, 8, 5), epochs=1, parts=1), make_batches())
    assert [state[f"weights_{i}"].shape for i in range(3)] == [(30, 12), (12, 8), (8, 5)]
    assert state["weights"].shape == (12 + 8 + 5, 3)
