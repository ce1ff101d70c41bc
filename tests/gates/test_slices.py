import numpy as np
import pandas as pd

from audioml.gates import slices

from ._evidence import make_evidence


def scores_of(**right: tuple[int, int]) -> pd.DataFrame:
    """A hundred clips by each speaker, of which so many are right by ours and by theirs."""
    rows = []
    for speaker, counts in right.items():
        ours, theirs = (np.arange(100) < n for n in counts)
        rows.append(pd.DataFrame({"speaker": speaker, "ours": ours, "theirs": theirs, "ours_of": 1, "theirs_of": 1}))
    return pd.concat(rows, ignore_index=True).astype({"ours": float, "theirs": float})


def check(scores: pd.DataFrame | None, **params: object) -> slices.Verdict:
    return slices.check(slices.Params(**params), make_evidence({}, {}, read_scores=lambda: scores))


def test_the_worst_part_decides():
    scores = scores_of(ann=(90, 80), bob=(80, 86), eve=(95, 99))
    verdict = check(scores)
    assert verdict.passed is False
    assert "Of 3 parts with 30 clips or more, speaker bob loses most, +0.0600 of test_accuracy" in verdict.said
    assert check(scores, max_loss=0.06 + 1e-9).passed
    assert check(scores_of(ann=(90, 80), bob=(99, 86))).passed


def test_of_an_error_rate_more_is_a_loss():
    evidence = make_evidence({}, {}, read_scores=lambda: scores_of(ann=(10, 20), bob=(30, 20)), higher_is_better=False)
    verdict = slices.check(slices.Params(), evidence)
    assert (verdict.passed, "speaker bob" in verdict.said) == (False, True)


def test_a_few_clips_are_no_part():
    scores = pd.concat([scores_of(ann=(90, 90), bob=(90, 90)), scores_of(eve=(0, 100)).iloc[:20]], ignore_index=True)
    assert check(scores).passed
    assert check(scores, min_clips=10).passed is False
    assert check(scores, min_clips=1000).passed is None


def test_a_column_that_makes_no_parts_is_named():
    verdict = check(scores_of(ann=(90, 90), bob=(90, 90)), columns=["microphone"])
    assert verdict.passed is False
    assert verdict.said == "There are no parts by microphone; there are parts by: speaker."


def test_a_metric_without_parts_is_not_judged():
    assert check(None).passed is None


def test_the_first_champion_loses_nothing():
    assert slices.check(slices.Params(), make_evidence({})).passed
