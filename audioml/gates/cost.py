"""The challenger is small and fast enough: bytes of its network, and milliseconds from an audio file to an answer."""

from __future__ import annotations

from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from audioml.evaluation.cost import time_predictions
from audioml.gates._evidence import Evidence, Verdict
from audioml.inference.description import MODEL
from audioml.params import Section

TIMED_CLIPS = 50


class Params(Section):
    """The bounds; a machine's own speed counts."""

    max_mb: Annotated[float, Field(gt=0)] | None = None
    """Of model.onnx, in millions of bytes."""
    max_ms: Annotated[float, Field(gt=0)] | None = None
    """Median over test clips, one at a time on one thread of the machine that judges."""

    @model_validator(mode="after")
    def _check_bounds(self) -> Self:
        if self.max_mb is None and self.max_ms is None:
            raise ValueError("a bound is missing; set max_mb or max_ms")
        return self


def check(params: Params, evidence: Evidence) -> Verdict:
    """Weigh the network, and time it."""
    figures, asked = {"mb": (evidence.challenger.package / MODEL).stat().st_size / 1e6}, []
    if params.max_ms is not None:
        _, clips = evidence.read_clips(TIMED_CLIPS)
        if not clips:
            return Verdict(False, "There are no test clips to time it on.")
        figures["ms"] = 1000 * float(np.median(time_predictions(evidence.challenger.package, clips)))
        asked.append(f"at most {params.max_ms:g} ms")
    if params.max_mb is not None:
        asked.append(f"at most {params.max_mb:g} MB")
    bounds = {"mb": params.max_mb, "ms": params.max_ms}
    passed = all(value <= bound for name, value in figures.items() if (bound := bounds[name]) is not None)
    found = " and ".join(f"{value:.3g} {'MB' if name == 'mb' else 'ms a clip'}" for name, value in figures.items())
    return Verdict(passed, f"It takes {found}; {' and '.join(asked)} is asked for.", figures)
