"""A Gaussian mixture of single frames for each label.

Source: Reynolds and Rose, "Robust text-independent speaker identification using Gaussian mixture speaker models", IEEE
Transactions on Speech and Audio Processing 3, 1995: diagonal covariances, and the likelihood of a window is that of its
frames, one by one. Their order counts for nothing. Neighbouring frames are far from independent, so the mean of
their log-likelihoods, times a factor fitted on the training windows, takes the place of the sum. All labels are
taken to be equally frequent.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from audioml.models._probabilities import fit_factor
from audioml.models._statistics import MIN_SCALE, Batches, Floats, State
from audioml.params import Section

MIN_VARIANCE = 1e-2
"""Added to each variance, in standardised bins: a bin that is silent throughout is no proof of a label."""


class Params(Section):
    """How fine a mixture is."""

    components: Annotated[int, Field(ge=1)] = 16
    """Gaussians of a label."""
    max_frames: Annotated[int, Field(ge=2)] = 50_000
    """Frames that a label's mixture is fitted on, about, at most; drawn at random from more."""


def fit(params: Params, batches: Batches, n_labels: int, seed: int) -> State:
    """Return the mixtures.

    Returns
    -------
    State
        `mean` and `std` float32 (bins, 1); `centres` and `variances` float32 (labels, components, bins),
        `log_weights` float32 (labels, components); `factor` float32 ().
    """
    from sklearn.mixture import GaussianMixture

    frames = _draw_frames(params, batches, n_labels, seed)
    together = np.concatenate(frames)
    mean, std = together.mean(axis=0, dtype=np.float64), together.std(axis=0, dtype=np.float64)
    state: State = {
        "mean": mean.astype(np.float32)[:, None],
        "std": np.maximum(std, MIN_SCALE).astype(np.float32)[:, None],
    }
    n_components = min(params.components, *(len(own) for own in frames))
    mixtures = [
        GaussianMixture(n_components, covariance_type="diag", reg_covar=MIN_VARIANCE, random_state=seed).fit(
            (own - state["mean"].T) / state["std"].T
        )
        for own in frames
    ]
    state |= {
        "centres": np.stack([mixture.means_ for mixture in mixtures]).astype(np.float32),
        "variances": np.stack([mixture.covariances_ for mixture in mixtures]).astype(np.float32),
        "log_weights": np.log(np.stack([mixture.weights_ for mixture in mixtures])).astype(np.float32),
        "factor": np.ones((), np.float32),
    }
    return state | {"factor": np.array(_fit_factor(state, batches))}


def build_fitted(params: Params, state: dict[str, Tensor]) -> nn.Module:
    """Return the module that maps float32 (n, bins, frames) to log-probabilities (n, labels)."""
    return GaussianMixtures(state)


class GaussianMixtures(nn.Module):
    """The mixtures of all labels. Densities are computed in float64, as they are differences of large squares."""

    mean: Tensor
    std: Tensor
    factor: Tensor
    squares: Tensor
    products: Tensor
    constants: Tensor

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        for name in ("mean", "std", "factor"):
            self.register_buffer(name, state[name])
        centres, variances = state["centres"].double(), state["variances"].double()
        self.n_labels, _, bins = centres.shape
        constants = (centres.square() / variances + torch.log(2 * torch.pi * variances)).sum(dim=2)
        self.register_buffer("squares", (-0.5 / variances).reshape(-1, bins).T)
        self.register_buffer("products", (centres / variances).reshape(-1, bins).T)
        self.register_buffer("constants", (state["log_weights"].double() - 0.5 * constants).reshape(-1))

    def forward(self, features: Tensor) -> Tensor:
        """Map float32 (n, bins, frames) to log-probabilities (n, labels)."""
        return torch.log_softmax(self.factor * self.measure_likelihoods(features), dim=1)

    def measure_likelihoods(self, features: Tensor) -> Tensor:
        """Return float32 (n, labels): the mean over frames of the logarithm of their density under each mixture."""
        frames = ((features - self.mean) / self.std).transpose(1, 2).double()
        densities = frames.square() @ self.squares + frames @ self.products + self.constants
        n, n_frames, _ = frames.shape
        of_labels = densities.reshape(n, n_frames, self.n_labels, -1).logsumexp(dim=3)
        return of_labels.mean(dim=1).float()


def _draw_frames(params: Params, batches: Batches, n_labels: int, seed: int) -> list[Floats]:
    """Return frames of each label, (frames, bins)."""
    counts = np.zeros(n_labels)
    for features, labels in batches:
        counts += np.bincount(labels, minlength=n_labels) * features.shape[2]
    shares = np.minimum(1.0, params.max_frames / counts)
    generator = np.random.default_rng(seed)
    kept: list[list[Floats]] = [[] for _ in range(n_labels)]
    for features, labels in batches:
        drawn = generator.random((len(labels), features.shape[2])) < shares[labels][:, None]
        for label in np.unique(labels):
            own = labels == label
            kept[label].append(features[own].transpose(0, 2, 1)[drawn[own]])
    return [np.concatenate(own) for own in kept]


def _fit_factor(state: State, batches: Batches) -> np.float32:
    mixtures = GaussianMixtures({name: torch.from_numpy(values) for name, values in state.items()})
    measured = [(mixtures.measure_likelihoods(torch.from_numpy(features)), labels) for features, labels in batches]
    likelihoods = torch.cat([values for values, _ in measured])
    return fit_factor(lambda factor: factor * likelihoods, np.concatenate([labels for _, labels in measured]))
