import pytest

from audioml.gates import calibration
from audioml.params import PluginSection

from ._evidence import make_evidence


@pytest.mark.parametrize(("ece", "passed"), [(0.04, True), (0.06, False)])
def test_the_calibration_error_is_bounded(ece, passed):
    verdict = calibration.check(calibration.Params(), make_evidence({"calibration_ece": ece}))
    assert verdict.passed is passed


def test_what_was_not_measured_does_not_pass():
    assert calibration.check(calibration.Params(), make_evidence({})).passed is False


def test_a_task_without_probabilities_is_not_judged():
    evidence = make_evidence({})
    params = evidence.params.model_copy(update={"task": PluginSection(name="ctc")})
    verdict = calibration.check(calibration.Params(), make_evidence({}, params=params))
    assert (verdict.passed, "ctc" in verdict.said) == (None, True)
