"""A registered metric is within bounds, or the pessimistic end of its interval is."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from audioml.gates._evidence import Evidence, Verdict, compare_figures
from audioml.params import Section


class Params(Section):
    """Which metric, and its bounds."""

    metric: str = "test_low"
    """As it is registered (`audioml models compare` lists them): ``test_accuracy``, ``test_recall/yes``. ``test_low``
    and ``test_high`` are the ends of the primary metric's interval."""
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError("a bound is missing; set min or max")
        return self


def check(params: Params, evidence: Evidence) -> Verdict:
    """Compare the metric with its bounds."""
    return compare_figures(params.metric, evidence.metric(params.metric), least=params.min, most=params.max)
