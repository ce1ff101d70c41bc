"""The data set has passed its checks (Great Expectations), and is the one that the challenger learned from."""

from __future__ import annotations

from audioml.gates._evidence import Evidence, Verdict
from audioml.params import Section
from audioml.store.files import read_json

REPORT = "reports/validation.json"


class Params(Section):
    """It has no keys."""


def check(params: Params, evidence: Evidence) -> Verdict:
    """Read what the step `validate` wrote."""
    path = evidence.workspace / REPORT
    if not path.exists():
        return Verdict(False, f"{REPORT} is missing, so nobody knows. Make it with: audioml run validate")
    report = read_json(path)
    failed = [check["name"] for check in report["checks"] if not check["success"]]
    told = f"; told of, but let pass: {', '.join(failed)}" if failed and report["success"] else ""
    if report["success"]:
        return Verdict(True, f"{len(report['checks'])} checks of {report['dataset']['clips']} clips passed{told}.")
    return Verdict(False, f"The data set fails {', '.join(failed)}. See: audioml run validate")
