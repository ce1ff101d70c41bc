"""Support vector machines on clip statistics, one label against the rest.

Source: Cortes and Vapnik, "Support-vector networks", Machine Learning 20, 1995. Decision values become probabilities by
a logistic function of each label's value, fitted on windows that the machine has not seen (Platt, "Probabilistic
outputs for support vector machines", 1999), and divided by their sum (Zadrozny and Elkan, KDD 2002), as
scikit-learn's `CalibratedClassifierCV` does.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from audioml.errors import DatasetError
from audioml.models._statistics import (
    Batches,
    State,
    StatisticsModel,
    StatisticsParams,
    draw_windows,
    fit_statistics,
)

CALIBRATION_FOLDS = 3
"""Parts of the training windows that are left out in turn for the logistic functions."""


class Params(StatisticsParams):
    """How windows are told apart."""

    kernel: Literal["rbf", "linear"] = "rbf"
    c: Annotated[float, Field(gt=0)] = 10.0
    """What a training window on the wrong side costs."""
    max_windows: Annotated[int, Field(ge=1)] = 10_000
    """Training windows, at most, drawn at random from more: fitting takes time with their square."""


def fit(params: Params, batches: Batches, n_labels: int, seed: int) -> State:
    """Return the support vectors of all labels and each label's decision function.

    Returns
    -------
    State
        `vectors` float32 (vectors, d), `weights` float32 (vectors, columns), `bias`, `slope` and `offset` float32
        (columns,), `gamma` float32 (); of two labels only the second has a column.

    Raises
    ------
    DatasetError
        When a label has one window only.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import StratifiedKFold
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.svm import SVC

    statistics, labels, state = fit_statistics(params, batches)
    drawn = draw_windows(labels, params.max_windows, seed)
    statistics, labels = statistics[drawn], labels[drawn]
    fewest = int(np.bincount(labels, minlength=n_labels).min())
    if fewest < 2:
        raise DatasetError(
            "The model 'svm' needs two training windows of each label, and one has a single one. Add recordings of it, "
            "raise model.max_windows, or choose another model."
        )
    gamma = 1 / (statistics.shape[1] * statistics.var())
    folds = StratifiedKFold(min(CALIBRATION_FOLDS, fewest), shuffle=True, random_state=seed)
    machines = OneVsRestClassifier(SVC(kernel=params.kernel, C=params.c, gamma=gamma))
    calibrated = CalibratedClassifierCV(machines, method="sigmoid", cv=folds, ensemble=False).fit(statistics, labels)
    (fitted,) = calibrated.calibrated_classifiers_
    weights = np.zeros((len(statistics), len(fitted.estimator.estimators_)))
    for column, machine in enumerate(fitted.estimator.estimators_):
        weights[machine.support_, column] = machine.dual_coef_[0]
    used = np.flatnonzero(weights.any(axis=1))
    arrays: State = {
        "vectors": statistics[used],
        "weights": weights[used],
        "bias": np.concatenate([machine.intercept_ for machine in fitted.estimator.estimators_]),
        "slope": np.array([-logistic.a_ for logistic in fitted.calibrators]),
        "offset": np.array([-logistic.b_ for logistic in fitted.calibrators]),
        "gamma": np.array(gamma),
    }
    return state | {name: value.astype(np.float32) for name, value in arrays.items()}


def build_fitted(params: Params, state: dict[str, Tensor]) -> nn.Module:
    """Return the module that maps float32 (n, bins, frames) to log-probabilities (n, labels)."""
    return SupportVectorMachines(params, state)


class SupportVectorMachines(StatisticsModel):
    """Decision values of all labels, and their probabilities."""

    vectors: Tensor
    weights: Tensor
    bias: Tensor
    slope: Tensor
    offset: Tensor
    gamma: Tensor

    def __init__(self, params: Params, state: dict[str, Tensor]) -> None:
        super().__init__(params, state)
        self.kernel = params.kernel

    def decide(self, statistics: Tensor) -> Tensor:
        """Map (n, d) to (n, labels)."""
        products = statistics @ self.vectors.T
        if self.kernel == "rbf":
            lengths = statistics.square().sum(dim=1, keepdim=True) + self.vectors.square().sum(dim=1)
            products = torch.exp(-self.gamma * (lengths - 2 * products))
        values = products @ self.weights + self.bias
        probabilities = torch.sigmoid(self.slope * values + self.offset)
        if len(self.bias) == 1:
            return torch.cat([1 - probabilities, probabilities], dim=1)
        return probabilities / probabilities.sum(dim=1, keepdim=True).clamp(min=1e-30)
