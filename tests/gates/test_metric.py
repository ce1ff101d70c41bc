import math

import pytest

from audioml.errors import ParamsError
from audioml.gates import metric
from audioml.params import parse_section

from ._evidence import make_evidence


@pytest.mark.parametrize(("value", "passed"), [(0.9, True), (0.89, False), (math.nan, False), (None, False)])
def test_a_metric_is_at_least_so_much(value, passed):
    metrics = {} if value is None else {"test_low": value}
    verdict = metric.check(metric.Params(min=0.9), make_evidence(metrics))
    assert verdict.passed is passed
    assert "at least 0.9 is asked for" in verdict.said


def test_a_metric_is_at_most_so_much():
    params = metric.Params(metric="test_wer", max=0.1)
    assert metric.check(params, make_evidence({"test_wer": 0.1})).passed
    verdict = metric.check(params, make_evidence({"test_wer": 0.2}))
    assert (verdict.passed, verdict.said) == (False, "test_wer is 0.2; at most 0.1 is asked for.")
    assert verdict.figures == {"test_wer": 0.2}


def test_without_a_bound_it_is_no_gate():
    with pytest.raises(ParamsError, match="set min or max"):
        parse_section(metric.Params, {"metric": "test_accuracy"}, "registry.gates.0")
