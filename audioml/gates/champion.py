"""On the same clips the challenger is better than the champion, or at least not worse, by a paired bootstrap.

The interval of the difference is that of `audioml.evaluation.paired`, at the confidence `evaluate.confidence`. To be
better, it has to lie above zero; to be not worse, above minus the tolerance (a test of non-inferiority: Piaggio et al.,
JAMA 2012, doi 10.1001/jama.2012.87802).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from audioml.gates._evidence import Evidence, Verdict
from audioml.params import Section


class Params(Section):
    """What is asked for."""

    require: Literal["better", "not_worse"] = "not_worse"
    tolerance: Annotated[float, Field(ge=0)] = 0.05
    """How much worse, in the metric's own units, still counts as not worse."""


def check(params: Params, evidence: Evidence) -> Verdict:
    """Look where the interval of the difference lies."""
    if evidence.champion is None:
        return Verdict(True, "There is no champion to be compared with.")
    if evidence.paired is None:
        passed = False if params.require == "better" else None
        return Verdict(passed, f"They were not compared on the same clips: {evidence.not_paired}")
    found = evidence.paired
    sign = 1 if evidence.higher_is_better else -1
    worst = found["low"] if evidence.higher_is_better else -found["high"]
    passed = worst > 0 if params.require == "better" else worst >= -params.tolerance
    asked = "better" if params.require == "better" else f"not worse by more than {params.tolerance:g}"
    said = (
        f"{evidence.primary} differs by {found['difference']:+.4f} from that of version {evidence.champion.version} on "
        f"{found['n']} clips ({100 * found['confidence']:g} % interval {found['low']:+.4f} to {found['high']:+.4f}); "
        f"{asked} is asked for."
    )
    return Verdict(passed, said, {"gain": sign * found["difference"], "least_gain": worst})
