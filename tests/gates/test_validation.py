import json

import pytest

from audioml.gates import validation

from ._evidence import make_evidence


@pytest.fixture
def write(tmp_path):
    def write_report(success: bool, **checks: bool):
        report = {
            "success": success,
            "dataset": {"clips": 7},
            "checks": [{"name": name, "success": passed} for name, passed in checks.items()],
        }
        (tmp_path / "reports").mkdir()
        (tmp_path / "reports" / "validation.json").write_text(json.dumps(report))
        return validation.check(validation.Params(), make_evidence({}, workspace=tmp_path))

    return write_report


def test_all_checks_passed(write):
    verdict = write(True, columns=True, silence=True)
    assert (verdict.passed, verdict.said) == (True, "2 checks of 7 clips passed.")


def test_what_was_let_pass_is_told(write):
    verdict = write(True, columns=True, silence=False)
    assert (verdict.passed, "told of, but let pass: silence" in verdict.said) == (True, True)


def test_a_failed_check(write):
    verdict = write(False, columns=True, silence=False)
    assert (verdict.passed, "The data set fails silence" in verdict.said) == (False, True)


def test_nobody_looked(tmp_path):
    verdict = validation.check(validation.Params(), make_evidence({}, workspace=tmp_path))
    assert (verdict.passed, "audioml run validate" in verdict.said) == (False, True)
