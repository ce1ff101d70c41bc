"""Templates of each label, and how near a window is to them when time is warped.

Source: Sakoe and Chiba, "Dynamic programming algorithm optimization for spoken word recognition", IEEE Transactions on
Acoustics, Speech, and Signal Processing 26, 1978: a band around the diagonal, and the symmetric form, in which a
diagonal step counts twice, so that every path weighs as much as both windows are long, and dividing by that gives the
mean distance along the path. It is `librosa.sequence.dtw(global_constraints=True, weights_mul=[2, 1, 1])`. Templates
are medoids, chosen greedily as in the first phase of PAM (Kaufman and Rousseeuw, "Finding Groups in Data", 1990,
chapter 2). All templates of a label speak for it, the nearest ones most: their distances, times a factor fitted on
training windows that are no templates, are the negative exponents of a kernel density.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from audioml.models._probabilities import fit_factor
from audioml.models._statistics import MIN_SCALE, Batches, Floats, Indices, State
from audioml.params import Section

FIXED_FRAMES = True
AT_ONCE = 16
"""Windows that are warped together while fitting; bounds memory."""


class Params(Section):
    """What windows are compared with, and how."""

    templates: Annotated[int, Field(ge=1)] = 16
    """Of each label. Time for a prediction grows with it and with the number of labels."""
    max_frames: Annotated[int, Field(ge=2, le=100)] = 50
    """Frames of a window that are compared, at most; neighbouring ones are averaged in longer windows. Time and the
    model's graph grow with it."""
    band: Annotated[float, Field(gt=0, le=0.5)] = 0.1
    """How far time may be warped, as a share of the window."""
    candidates: Annotated[int, Field(ge=1)] = 100
    """Training windows of each label, at most, that templates are chosen from, drawn at random from more; fitting takes
    time with their square."""


def fit(params: Params, batches: Batches, n_labels: int, seed: int) -> State:
    """Return the templates.

    Returns
    -------
    State
        `pooling` float32 (frames, frames'), `mean` and `std` float32 (bins, 1), `templates` float32 (templates, bins,
        frames'), `is_of_label` bool (labels, templates), `factor` float32 ().
    """
    windows, labels, state = _draw_candidates(params, batches, seed)
    radius = _radius(params, windows.shape[2])
    chosen = []
    for label in range(n_labels):
        own = np.flatnonzero(labels == label)
        chosen.append(own[choose_medoids(_warp_all(windows[own], windows[own], radius), params.templates)])
    templates = np.concatenate(chosen)
    is_of_label = labels[templates] == np.arange(n_labels)[:, None]
    state |= {"templates": windows[templates], "is_of_label": is_of_label}
    others = np.setdiff1d(np.arange(len(labels)), templates)
    judged = others if len(others) else templates
    costs, mask = (
        torch.from_numpy(_warp_all(windows[judged], windows[templates], radius)),
        torch.from_numpy(is_of_label),
    )
    factor = fit_factor(lambda factor: sum_templates(factor * costs, mask), labels[judged])
    return state | {"factor": np.array(factor)}


def build_fitted(params: Params, state: dict[str, Tensor]) -> nn.Module:
    """Return the module that maps float32 (n, bins, frames) to log-probabilities (n, labels)."""
    return TemplateMatching(params, state)


class TemplateMatching(nn.Module):
    """The density of each label at a window, and its share of all."""

    pooling: Tensor
    mean: Tensor
    std: Tensor
    templates: Tensor
    is_of_label: Tensor
    factor: Tensor

    def __init__(self, params: Params, state: dict[str, Tensor]) -> None:
        super().__init__()
        for name, value in state.items():
            self.register_buffer(name, value)
        self.warping = Warping(state["templates"].shape[2], _radius(params, state["templates"].shape[2]))

    def forward(self, features: Tensor) -> Tensor:
        """Map float32 (n, bins, frames) to log-probabilities (n, labels)."""
        windows = (features @ self.pooling - self.mean) / self.std
        exponents = self.factor * self.warping(windows, self.templates)
        return torch.log_softmax(sum_templates(exponents, self.is_of_label), dim=1)


class Warping(nn.Module):
    """The mean distance of frames along the best path, of each window to each template, all of the same frames.

    Distances are measured for blocks of frames of the window, each with the frames of the template that the band
    allows. Cells (i, j) of equal i + j depend on the two sums before only, so each sum is one step. Slot q of sum 2m
    is cell (m + q, m - q), of sum 2m + 1 it is (m + 1 + q, m - q).
    """

    columns: Tensor
    cells: Tensor

    def __init__(self, frames: int, radius: int) -> None:
        """Warp windows of `frames` frames along cells with |i - j| below `radius`, which is 1 at least."""
        super().__init__()
        self.frames, self.radius, self.middle = frames, radius, radius // 2 + 1
        self.n_blocks, self.width = -(-frames // radius), 3 * radius - 2
        starts = np.arange(self.n_blocks)[:, None] * radius
        self.register_buffer("columns", torch.from_numpy(starts + np.arange(self.width)))
        sums = np.arange(2 * frames - 1)[:, None]
        slots = np.arange(-self.middle, self.middle + 1)
        i, j = (sums + 1) // 2 + slots, sums // 2 - slots
        inside = (np.abs(i - j) < radius) & (i >= 0) & (j >= 0) & (i < frames) & (j < frames)
        position = i * self.width + j - (i // radius * radius - (radius - 1))
        # What is outside lies behind the last cell, where the distance is infinite.
        self.register_buffer("cells", torch.from_numpy(np.where(inside, position, self.n_blocks * radius * self.width)))

    def forward(self, windows: Tensor, templates: Tensor) -> Tensor:
        """Map float32 (n, bins, frames) and (k, bins, frames) to float32 (n, k)."""
        distances = nn.functional.pad(self._measure_distances(windows, templates), (0, 1), value=torch.inf)
        first, *others = distances[:, :, self.cells].unbind(dim=2)
        outside = torch.full_like(first[:, :, :1], torch.inf)
        before, last = torch.full_like(first, torch.inf), first
        for number, here in enumerate(others, start=1):
            if number % 2:
                beside = torch.cat([last[:, :, 1:], outside], dim=2)
            else:
                beside = torch.cat([outside, last[:, :, :-1]], dim=2)
            before, last = last, torch.minimum(torch.minimum(last, beside) + here, before + 2 * here)
        return last[:, :, self.middle] / (2 * self.frames)

    def _measure_distances(self, windows: Tensor, templates: Tensor) -> Tensor:
        """Return the Euclidean distances of frames, float32 (n, k, blocks × radius × width).

        Squares are subtracted in float64: equal frames are at distance 0 on every machine.
        """
        n_blocks, radius, width = self.n_blocks, self.radius, self.width
        bins, k, rest = windows.shape[1], templates.shape[0], n_blocks * radius - self.frames
        ours = nn.functional.pad(windows.double(), (0, rest)).reshape(-1, bins, n_blocks, radius)
        ours = ours.permute(2, 0, 3, 1).reshape(n_blocks, -1, bins)
        theirs = nn.functional.pad(templates.double(), (radius - 1, radius - 1 + rest))[:, :, self.columns]
        theirs = theirs.permute(2, 1, 0, 3).reshape(n_blocks, bins, -1)
        squares = ours.square().sum(dim=2, keepdim=True) + theirs.square().sum(dim=1, keepdim=True)
        distances = (squares - 2 * ours @ theirs).clamp(min=1e-12).sqrt().float()
        return distances.reshape(n_blocks, -1, radius, k, width).permute(1, 3, 0, 2, 4).flatten(2)


def sum_templates(exponents: Tensor, is_of_label: Tensor) -> Tensor:
    """Return the logarithm of the mean of exp(-exponent) over each label's templates, (n, templates) to (n, labels)."""
    of_label = torch.where(is_of_label, -exponents.unsqueeze(1), -torch.inf)
    return of_label.logsumexp(dim=2) - is_of_label.sum(dim=1).log()


def choose_medoids(costs: Floats, n: int) -> Indices:
    """Return the positions of `n` items, or all there are; each one lowers the sum of distances to the nearest most.

    Parameters
    ----------
    costs
        (items, items).
    """
    chosen: list[int] = []
    nearest = np.full(len(costs), np.inf)
    for _ in range(min(n, len(costs))):
        sums = np.minimum(nearest[:, None], costs).sum(axis=0)
        sums[chosen] = np.inf
        chosen.append(int(sums.argmin()))
        nearest = np.minimum(nearest, costs[:, chosen[-1]])
    return np.array(chosen, dtype=np.int64)


def _radius(params: Params, frames: int) -> int:
    return max(1, round(params.band * frames))


def _make_pooling(frames: int, at_most: int) -> Floats:
    """Return (frames, frames'): each column averages a stretch; the identity where there are few frames."""
    n = min(frames, at_most)
    pooling = np.zeros((frames, n), np.float32)
    for column in range(n):
        start, stop = frames * column // n, -(-frames * (column + 1) // n)
        pooling[start:stop, column] = 1 / (stop - start)
    return pooling


def _draw_candidates(params: Params, batches: Batches, seed: int) -> tuple[Floats, Indices, State]:
    """Return some windows of each label as they are compared, (n, bins, frames'), their labels, and what made them."""
    labels = np.concatenate([labels for _, labels in batches])
    generator = np.random.default_rng(seed)
    is_drawn = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        is_drawn[generator.permutation(np.flatnonzero(labels == label))[: params.candidates]] = True
    kept: list[NDArray[np.float32]] = []
    start = 0
    for features, own in batches:
        kept.append(features[is_drawn[start : start + len(own)]])
        start += len(own)
    features = np.concatenate(kept)
    pooling = _make_pooling(features.shape[2], params.max_frames)
    windows = features @ pooling
    mean, std = windows.mean(axis=(0, 2), keepdims=True)[0], windows.std(axis=(0, 2), keepdims=True)[0]
    std = np.maximum(std, MIN_SCALE)
    return (windows - mean) / std, labels[is_drawn], {"pooling": pooling, "mean": mean, "std": std}


def _warp_all(windows: Floats, templates: Floats, radius: int) -> Floats:
    warping = Warping(windows.shape[2], radius)
    others = torch.from_numpy(templates)
    parts = [warping(part, others) for part in torch.split(torch.from_numpy(windows), AT_ONCE)]
    costs: Floats = torch.cat(parts).numpy()
    return costs
