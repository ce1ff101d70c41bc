"""What gates judge by, and what they answer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audioml.params import Params

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Verdict:
    """What a gate says of a challenger."""

    passed: bool | None
    """None where the gate does not apply to such a model; it then stands in nobody's way."""
    said: str
    """One sentence: what was found and what was asked for."""
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Side:
    """A version that is judged, or judged against."""

    version: int
    metrics: Mapping[str, float]
    """As they were registered: ``test_accuracy``, ``noise_accuracy/10_db``."""
    package: Path
    """Folder of its artifacts: the network, its description, golden clips."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that gates may look at. What takes time is found when it is asked for, once."""

    workspace: Path
    params: Params
    challenger: Side
    champion: Side | None
    primary: str
    """Registered name of the metric that models are compared by, such as ``test_accuracy``."""
    higher_is_better: bool
    paired: Mapping[str, Any] | None
    """Both on the same clips: `audioml.registry.paired.compare_versions`; None where that cannot be done."""
    not_paired: str
    """Why."""
    read_scores: Callable[[], pd.DataFrame | None]
    """Return the test clips with both versions' scores: the manifest's columns, and ``ours``, ``ours_of``, ``theirs``,
    ``theirs_of``, whose sums' quotients are the metric; None where that is not how the metric is made."""
    read_clips: Callable[[int], tuple[pd.DataFrame, list[bytes]]]
    """Return so many test clips, drawn by the seed: rows of the manifest, and their audio files."""
    serve: Callable[[], AbstractContextManager[str]]
    """Return the address of a server of the challenger, in a process of its own, for the block."""

    def metric(self, name: str) -> float:
        """Return a registered metric of the challenger; NaN where it has none of that name."""
        return self.challenger.metrics.get(name, math.nan)


def compare_figures(name: str, value: float, *, least: float | None = None, most: float | None = None) -> Verdict:
    """Return the verdict on a figure that is to be at least, or at most, so much.

    A figure that is not known does not pass.
    """
    bounds = [f"{word} {bound:g}" for word, bound in (("at least", least), ("at most", most)) if bound is not None]
    if math.isnan(value):
        return Verdict(False, f"{name} is not known; {' and '.join(bounds)} is asked for.")
    passed = (least is None or value >= least) and (most is None or value <= most)
    return Verdict(passed, f"{name} is {value:.4g}; {' and '.join(bounds)} is asked for.", {name: value})
