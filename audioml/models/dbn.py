"""A stack of restricted Boltzmann machines on clip statistics, under a logistic regression.

Source: Hinton, Osindero, Teh, "A fast learning algorithm for deep belief nets", Neural Computation 18, 2006: each
machine learns, without labels, what the one below it makes of the windows; labels come in at the top only. The stack
is not tuned by gradients afterwards. So the regression sees the units of all machines, as in Lee, Pham, Largman, Ng,
"Unsupervised feature learning for audio classification using convolutional deep belief networks", NIPS 2009: what the
upper ones lose is not lost.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from audioml.models._statistics import MIN_SCALE, Batches, State, StatisticsModel, StatisticsParams, fit_statistics

MAX_ITERATIONS = 1000
"""Of the logistic regression."""


class Params(StatisticsParams):
    """How large the stack is, and how long each machine learns."""

    layers: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (256, 128)
    """Hidden units of each machine, the lowest first."""
    epochs: Annotated[int, Field(ge=1)] = 20
    """Passes over the windows for each machine."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.001
    batch_size: Annotated[int, Field(ge=1)] = 10


def fit(params: Params, batches: Batches, n_labels: int, seed: int) -> State:
    """Return the weights of all machines and of the regression.

    Returns
    -------
    State
        Of each machine i: `low_<i>` and `span_<i>` float32 (units below,), by which what comes in is brought into
        [0, 1]; `weights_<i>` (units below, units), `bias_<i>` (units,). Of the regression: `weights` (all units,
        labels), `bias` (labels,).
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import BernoulliRBM

    units, labels, state = fit_statistics(params, batches)
    hidden = []
    for i, n_units in enumerate(params.layers):
        low, high = units.min(axis=0), units.max(axis=0)
        span = np.where(high > low, high - low, 1)
        machine = BernoulliRBM(
            n_units,
            learning_rate=params.learning_rate,
            batch_size=params.batch_size,
            n_iter=params.epochs,
            random_state=seed + i,
        )
        units = machine.fit_transform((units - low) / span)
        hidden.append(units)
        arrays = {"low": low, "span": span, "weights": machine.components_.T, "bias": machine.intercept_hidden_}
        state |= {f"{name}_{i}": values.astype(np.float32) for name, values in arrays.items()}
    units = np.hstack(hidden)
    mean, std = units.mean(axis=0), np.maximum(units.std(axis=0), MIN_SCALE)
    regression = LogisticRegression(max_iter=MAX_ITERATIONS).fit((units - mean) / std, labels)
    weights = regression.coef_.T / std[:, None]
    bias = regression.intercept_ - mean @ weights
    if n_labels == 2:
        weights, bias = np.hstack([np.zeros_like(weights), weights]), np.append(0.0, bias)
    return state | {"weights": weights.astype(np.float32), "bias": bias.astype(np.float32)}


def build_fitted(params: Params, state: dict[str, Tensor]) -> nn.Module:
    """Return the module that maps float32 (n, bins, frames) to log-probabilities (n, labels)."""
    return BeliefNet(params, state)


class BeliefNet(StatisticsModel):
    """Logistic units, layer on layer, and a softmax over what all of them say."""

    weights: Tensor
    bias: Tensor

    def __init__(self, params: Params, state: dict[str, Tensor]) -> None:
        super().__init__(params, state)
        self.n_layers = len(params.layers)

    def decide(self, statistics: Tensor) -> Tensor:
        """Map (n, d) to (n, labels); what is beyond the values of training counts as the furthest of them."""
        units, hidden = statistics, []
        for i in range(self.n_layers):
            low, span, weights, bias = (self.get_buffer(f"{name}_{i}") for name in ("low", "span", "weights", "bias"))
            units = torch.sigmoid(((units - low) / span).clamp(0, 1) @ weights + bias)
            hidden.append(units)
        return torch.softmax(torch.cat(hidden, dim=1) @ self.weights + self.bias, dim=1)
