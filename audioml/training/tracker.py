"""Where a training run is recorded. `registry` has the one that writes to MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class Tracker(Protocol):
    """What training tells of itself while it runs. Called from the first process only."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Record what does not change during the run."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Record numbers at an epoch. The same epoch may come again after a resume, with equal numbers."""


@dataclass
class MemoryTracker:
    """Keeps what it is told."""

    params: dict[str, Any] = field(default_factory=dict)
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Add params."""
        self.params.update(params)

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Add the metrics of a step."""
        self.metrics.setdefault(step, {}).update(metrics)


class NullTracker:
    """Keeps nothing: for all processes but the first."""

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Forget params."""

    def log_metrics(self, metrics: Mapping[str, float], step: int) -> None:
        """Forget metrics."""
