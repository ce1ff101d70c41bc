from __future__ import annotations

import numpy as np
import pytest

from audioml.errors import DatasetError
from audioml.models import svm

from ._fitted import build_model, fit_model, make_batches, predict, standardised


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
@pytest.mark.parametrize("n_labels", [2, 3])
def test_probabilities_are_those_of_sklearn(kernel: str, n_labels: int) -> None:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import StratifiedKFold
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import SVC

    params = svm.Params(kernel=kernel, c=0.5)
    batches = make_batches(n_labels=n_labels)
    (features, labels), ((others, _),) = batches[0], make_batches(n_labels=n_labels, seed=1)
    state = fit_model(svm, params, batches, n_labels, seed=7)
    machines = OneVsRestClassifier(SVC(kernel=kernel, C=0.5, gamma=float(state["gamma"])))
    folds = StratifiedKFold(3, shuffle=True, random_state=7)
    theirs = CalibratedClassifierCV(machines, method="sigmoid", cv=folds, ensemble=False)
    theirs.fit(standardised(state, features, params.parts), labels)
    expected = theirs.predict_proba(standardised(state, others, params.parts))
    np.testing.assert_allclose(predict(build_model(svm, params, state), others), expected, atol=1e-5)


def test_two_windows_of_a_label_are_enough_and_one_is_too_few() -> None:
    ((features, labels),) = make_batches(n=20, n_labels=2)
    few = [(features[[0, 2, 4, 6, 1, 3]], labels[[0, 2, 4, 6, 1, 3]])]
    assert len(fit_model(svm, svm.Params(), few, 2)["vectors"]) <= 6
    single = [(features[[0, 2, 4, 1]], labels[[0, 2, 4, 1]])]
    with pytest.raises(DatasetError, match=r"two training windows of each label.*max_windows"):
        fit_model(svm, svm.Params(), single, 2)


def test_it_is_fitted_on_no_more_windows_than_allowed() -> None:
    state = fit_model(svm, svm.Params(max_windows=12, c=0.001), make_batches())
    assert len(state["vectors"]) == 12
