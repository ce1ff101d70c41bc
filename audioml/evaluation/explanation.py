"""Which parts of a spectrogram made the model answer as it did: integrated gradients of the trained network.

torch and captum are imported where they are used: most of an evaluation needs neither.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.image import imsave
from scipy import ndimage

from audioml.evaluation.plots import to_data_uri

if TYPE_CHECKING:
    from audioml.training.network import Network

STEPS = 64
"""Points of the path from the baseline at which the gradient is taken."""
SMOOTHING = (0.7, 0.7)
"""Standard deviation in bins and frames of the blur that makes single points visible."""
SATURATED = 0.995
"""Quantile of the attributions' sizes that has full colour."""
FOR, AGAINST = np.array([1.0, 0.62, 0.11]), np.array([0.25, 0.66, 1.0])
"""Colours, RGB, of what speaks for the answer and against it."""
PIXELS = (260, 520)
"""Smallest height and width of a picture."""
MAX_FRAMES = 800
"""Columns of a picture before it is enlarged, at most."""

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Explanation:
    """A clip, and what in it made the model answer as it did."""

    path: str
    actual: str
    predicted: str
    confidence: float | None
    picture: bytes
    """PNG."""

    @property
    def picture_uri(self) -> str:
        """The picture as a ``data:`` address."""
        return to_data_uri(self.picture, "image/png")


def attribute(network: Network, window: Floats, target: int) -> Floats:
    """Return what each point of a window's features adds to one raw output, float32 ``(bins, frames)``.

    These are the integrated gradients (Sundararajan, Taly and Yan 2017) along the straight line from the mean
    spectrum of the training clips, held over all frames, to the window: their sum is the output's difference between
    both.

    Parameters
    ----------
    network
        Gives outputs ``(n, labels)``.
    window
        Features as they are stored, ``(bins, frames)``.
    target
        The output's position.
    """
    import torch
    from captum.attr import IntegratedGradients

    features = torch.from_numpy(window).unsqueeze(0).requires_grad_()
    baseline = network.mean.expand_as(features[0]).unsqueeze(0)
    integrated = IntegratedGradients(network)
    found = integrated.attribute(features, baseline, target, n_steps=STEPS, internal_batch_size=STEPS)
    attribution: Floats = found[0].detach().to(torch.float32).numpy()
    return attribution


def choose_clips(labels: Sequence[Any], wrong: Indices, confidence: Sequence[float], n: int) -> list[int]:
    """Return the positions of at most `n` clips to explain: the first of `wrong`, half at most, then right ones.

    Of each label it is the clip that the model was surest of.

    Parameters
    ----------
    labels, confidence
        Of all clips.
    wrong
        Positions of the clips that are not wholly right, the worst first.
    n
        How many.
    """
    chosen = [int(i) for i in wrong[: n // 2]]
    surest: dict[Any, int] = {}
    for i in sorted(set(range(len(labels))) - set(wrong.tolist()), key=lambda i: -confidence[i]):
        surest.setdefault(labels[i], i)
    return chosen + [surest[label] for label in sorted(surest, key=str)][: n - len(chosen)]


def draw_attribution(window: Floats, attribution: Floats) -> bytes:
    """Return a PNG: the features in grey, and over them what speaks for the answer (amber) and against it (blue).

    Parameters
    ----------
    window
        ``(bins, frames)``, low bins at the bottom.
    attribution
        Of the same shape.
    """
    block = -(-window.shape[1] // MAX_FRAMES)
    if block > 1:
        starts = np.arange(0, window.shape[1], block)
        attribution = np.add.reduceat(attribution, starts, axis=1)
        window = np.maximum.reduceat(window, starts, axis=1)
    low, high = np.quantile(window, [0.02, 0.998])
    grey = np.clip((window - low) / max(float(high - low), 1e-12), 0, 1)
    smooth = ndimage.gaussian_filter(attribution.astype(np.float64), SMOOTHING)
    size = np.abs(smooth)
    strength = np.clip(size / max(float(np.quantile(size, SATURATED)), 1e-30), 0, 1)[..., None]
    colour = np.where(smooth[..., None] > 0, FOR, AGAINST)
    # Grey stays dark, so that colour is what is seen first; a loud point stays brighter than a quiet one.
    base = 0.08 + 0.5 * grey[..., None] ** 1.2 * np.ones(3)
    picture = base * (1 - 0.85 * strength) + colour * 0.85 * strength
    enlarge = [max(1, -(-wanted // have)) for wanted, have in zip(PIXELS, window.shape, strict=True)]
    picture = picture[::-1].repeat(enlarge[0], axis=0).repeat(enlarge[1], axis=1)
    buffer = io.BytesIO()
    imsave(buffer, np.clip(picture, 0, 1), format="png")
    return buffer.getvalue()
