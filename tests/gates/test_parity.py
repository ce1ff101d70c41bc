import math

import pytest

from audioml.gates.parity import find_difference


@pytest.mark.parametrize(
    ("expected", "found", "difference"),
    [
        ({"label": "yes", "p": 0.5}, {"label": "yes", "p": 0.75, "model": {}}, 0.25),
        ({"label": "yes"}, {"label": "no"}, math.inf),
        ({"label": "yes"}, {}, math.inf),
        ([1.0, 2.0], [1.0, 2.5], 0.25),
        ([1.0, 2.0], [1.0], math.inf),
        ({"probabilities": {"a": 0.1}}, {"probabilities": {"a": 0.1, "b": 0.2}}, 0.0),
        (True, False, math.inf),
        (None, None, 0.0),
        (200.0, 100.0, 0.5),
        (math.nan, 1.0, math.nan),
    ],
)
def test_the_largest_difference(expected, found, difference):
    assert find_difference(expected, found) == pytest.approx(difference, nan_ok=True)
