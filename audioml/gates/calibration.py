"""The challenger's probabilities can be believed: its expected calibration error is small."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from audioml.gates._evidence import Evidence, Verdict, compare_figures
from audioml.params import Section
from audioml.plugins import load_plugin


class Params(Section):
    """How small."""

    max_ece: Annotated[float, Field(gt=0, le=1)] = 0.05


def check(params: Params, evidence: Evidence) -> Verdict:
    """Compare what the evaluation has measured with the bound."""
    if not hasattr(load_plugin("tasks", evidence.params.task.name), "calibration_loss"):
        return Verdict(None, f"The task {evidence.params.task.name} gives no probabilities that could be judged.")
    return compare_figures("calibration_ece", evidence.metric("calibration_ece"), most=params.max_ece)
