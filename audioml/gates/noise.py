"""In noise at a stated ratio the challenger is good enough, and not much worse than the champion."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from audioml.gates._evidence import Evidence, Verdict, compare_figures
from audioml.params import Section
from audioml.plugins import load_plugin
from audioml.tasks._outputs import primary_of


class Params(Section):
    """At which ratio, and how good."""

    snr_db: float = 10.0
    """One of `evaluate.noise_snrs_db`, at which the evaluation has measured."""
    min: float | None = None
    """Of the metric; for error rates set max."""
    max: float | None = None
    max_loss: Annotated[float, Field(ge=0)] | None = 0.05
    """How much worse than the champion; None does not compare."""

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.min is None and self.max is None and self.max_loss is None:
            raise ValueError("a bound is missing; set min, max or max_loss")
        return self


def check(params: Params, evidence: Evidence) -> Verdict:
    """Compare what the evaluations have measured in noise."""
    task = load_plugin("tasks", evidence.params.task.name)
    name = f"noise_{primary_of(task, evidence.params.plugin_section('tasks'))}/{params.snr_db:g}_db"
    value, champion = evidence.metric(name), evidence.champion
    if params.min is not None or params.max is not None or champion is None or params.max_loss is None:
        verdict = compare_figures(name, value, least=params.min, most=params.max)
        if not verdict.passed or champion is None or params.max_loss is None:
            return verdict
    theirs = champion.metrics.get(name)
    if theirs is None:
        return Verdict(False, f"The champion, version {champion.version}, has no {name} to be compared with.")
    loss = theirs - value if evidence.higher_is_better else value - theirs
    said = (
        f"{name} is {value:.4g}, and {theirs:.4g} of the champion, version {champion.version}; a loss of at most "
        f"{params.max_loss:g} is asked for."
    )
    return Verdict(loss <= params.max_loss, said, {name: value, "loss": loss})
