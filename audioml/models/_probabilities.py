"""From scores and probabilities to log-probabilities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MIN_PROBABILITY = 1e-6
"""A label that no neighbour or leaf speaks for is not impossible, and its logarithm is finite."""


def to_log_probabilities(probabilities: Tensor) -> Tensor:
    """Return the logarithm of probabilities (n, labels), those below 1e-6 raised to it."""
    return torch.log(probabilities.clamp(min=MIN_PROBABILITY))


def fit_factor(to_logits: Callable[[float], Tensor], labels: NDArray[np.int64]) -> np.float32:
    """Return the factor whose logits have the lowest cross-entropy against labels (n,).

    As in Platt, "Probabilistic outputs for support vector machines", 1999, section 2.2, each label counts as seen once
    more than it was, so that scores that are always right do not ask for an infinite factor.

    Parameters
    ----------
    to_logits
        From a factor of scores, from 1e-4 to 1e4, to logits (n, labels).
    """
    from scipy.optimize import minimize_scalar

    truth = torch.from_numpy(labels)

    def cross_entropy(log_factor: float) -> float:
        logits = to_logits(float(np.exp(log_factor)))
        n, n_labels = logits.shape
        smoothing = n_labels / (n + n_labels)
        return float(torch.nn.functional.cross_entropy(logits.double(), truth, label_smoothing=smoothing))

    found = minimize_scalar(cross_entropy, bounds=(np.log(1e-4), np.log(1e4)), method="bounded")
    return np.float32(np.exp(found.x))
