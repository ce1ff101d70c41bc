from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from audioml.evaluation.folds import draw_folds, judge_folds
from audioml.tasks import classification

TARGETS = {"labels": ["no", "yes"]}


def test_pooled_counts_clips_and_mean_counts_folds() -> None:
    clips = pd.DataFrame({"label": ["yes", "no", "yes", "no", "yes", "no"]})
    folds = ["b", "a", "b", "b", "b", "a"]
    says_yes = [True, True, True, False, True, False]
    outputs = [np.array([0.2, 0.8] if yes else [0.9, 0.1], np.float32) for yes in says_yes]
    found = judge_folds(
        classification,
        TARGETS,
        dict.fromkeys("ab", TARGETS),
        clips,
        folds,
        outputs,
        500,
        0.95,
        np.random.default_rng(0),
    )
    # Of fold a one of two is right, of fold b all four.
    assert found.table[["fold", "n", "metric"]].to_numpy().tolist() == [["b", 4, 1.0], ["a", 2, 0.5]]
    assert found.pooled.value == pytest.approx(5 / 6)
    assert found.metrics["accuracy"] == pytest.approx(5 / 6)
    assert found.pooled.low < 5 / 6 <= found.pooled.high
    assert found.mean == pytest.approx(0.75)
    assert found.std == pytest.approx(np.std([0.5, 1.0], ddof=1))
    groups = np.repeat(np.arange(12), 50)
    many = pd.concat([clips.iloc[:1]] * 600, ignore_index=True)
    given = [outputs[0] if group < 6 else outputs[3] for group in groups]
    widths = []
    for own in (None, groups):
        resampling = (500, 0.95, np.random.default_rng(0), own)
        pooled = judge_folds(classification, TARGETS, {"b": TARGETS}, many, ["b"] * 600, given, *resampling).pooled
        widths.append(pooled.high - pooled.low)
    assert widths[1] > 3 * widths[0]
    axes = draw_folds(found, "accuracy").axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["b", "a"]


def test_each_fold_is_judged_by_the_targets_of_its_own_model() -> None:
    clips = pd.DataFrame({"label": ["yes", "no", "yes"]})
    own = {"a": TARGETS, "b": {"labels": ["yes", "no"]}}
    outputs = [np.array(output, np.float32) for output in ([0.2, 0.8], [0.9, 0.1], [0.9, 0.1])]
    found = judge_folds(classification, TARGETS, own, clips, list("aab"), outputs, 100, 0.95, np.random.default_rng(0))
    assert found.pooled.value == found.mean == found.metrics["accuracy"] == 1
    # By those of the final model the last clip would be wrong.
    same = dict.fromkeys("ab", TARGETS)
    found = judge_folds(classification, TARGETS, same, clips, list("aab"), outputs, 100, 0.95, np.random.default_rng(0))
    assert found.metrics["accuracy"] == pytest.approx(2 / 3)
    assert found.table["metric"].tolist() == [1, 0]
