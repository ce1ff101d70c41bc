import pytest

from audioml.errors import ParamsError
from audioml.gates import noise
from audioml.params import parse_section

from ._evidence import make_evidence

NAME = "noise_accuracy/10_db"


@pytest.mark.parametrize(("value", "passed"), [(0.86, True), (0.84, False)])
def test_in_noise_it_loses_no_more_than_stated(value, passed):
    verdict = noise.check(noise.Params(), make_evidence({NAME: value}, {NAME: 0.9}))
    assert verdict.passed is passed
    assert "0.9 of the champion, version 1" in verdict.said


def test_a_bound_of_its_own():
    params = noise.Params(min=0.8)
    assert noise.check(params, make_evidence({NAME: 0.79}, {NAME: 0.79})).passed is False
    assert noise.check(params, make_evidence({NAME: 0.8}, {NAME: 0.8})).passed
    assert noise.check(params, make_evidence({NAME: 0.8})).passed


def test_what_was_not_measured_does_not_pass():
    verdict = noise.check(noise.Params(snr_db=3), make_evidence({NAME: 0.9}, {NAME: 0.9}))
    assert (verdict.passed, "noise_accuracy/3_db" in verdict.said) == (False, True)
    assert noise.check(noise.Params(), make_evidence({NAME: 0.9}, {})).passed is False


def test_without_a_bound_it_is_no_gate():
    with pytest.raises(ParamsError, match="set min, max or max_loss"):
        parse_section(noise.Params, {"max_loss": None}, "registry.gates.0")
