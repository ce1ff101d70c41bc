import pytest

from audioml.gates import champion

from ._evidence import make_evidence


def compare(low: float, high: float) -> dict[str, float]:
    return {"difference": (low + high) / 2, "low": low, "high": high, "n": 100, "confidence": 0.95}


@pytest.mark.parametrize(
    ("low", "high", "require", "passed"),
    [
        (-0.04, 0.02, "not_worse", True),
        (-0.06, 0.06, "not_worse", False),
        (0.0, 0.0, "not_worse", True),
        (0.001, 0.02, "better", True),
        (0.0, 0.02, "better", False),
        (0.0, 0.0, "better", False),
    ],
)
def test_the_interval_of_the_difference_decides(low, high, require, passed):
    evidence = make_evidence({}, {}, paired=compare(low, high))
    verdict = champion.check(champion.Params(require=require), evidence)
    assert verdict.passed is passed
    assert f"{low:+.4f} to {high:+.4f}" in verdict.said


@pytest.mark.parametrize(("low", "high", "passed"), [(-0.02, -0.001, True), (-0.02, 0.001, False)])
def test_an_error_rate_has_to_fall(low, high, passed):
    evidence = make_evidence({}, {}, paired=compare(low, high), higher_is_better=False)
    verdict = champion.check(champion.Params(require="better"), evidence)
    assert (verdict.passed, verdict.figures["least_gain"]) == (passed, -high)


def test_the_first_champion_has_nothing_to_beat():
    assert champion.check(champion.Params(require="better"), make_evidence({})).passed


def test_what_was_not_compared_is_not_better():
    evidence = make_evidence({}, {}, not_paired="version 1 knows no fox")
    verdict = champion.check(champion.Params(), evidence)
    assert (verdict.passed, verdict.said) == (
        None,
        "They were not compared on the same clips: version 1 knows no fox",
    )
    assert champion.check(champion.Params(require="better"), evidence).passed is False
