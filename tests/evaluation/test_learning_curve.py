from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from audioml.evaluation.intervals import bootstrap_interval
from audioml.evaluation.learning_curve import Point, judge_shares
from audioml.evaluation.plots import draw_learning_curve
from audioml.tasks import classification

TARGETS = {"labels": ["no", "yes"]}
TRUTH = np.array([0, 1] * 20)
CLIPS = pd.DataFrame({"label": ["no", "yes"] * 20})


def outputs(n_wrong: int) -> np.ndarray:
    right = np.arange(len(TRUTH)) >= n_wrong
    return np.eye(2, dtype=np.float32)[np.where(right, TRUTH, 1 - TRUTH)]


def test_each_model_is_judged_on_the_same_clips() -> None:
    points = [
        Point("0.1", 10, outputs(20), TARGETS),
        Point("0.5", 50, outputs(4), TARGETS),
        Point("all", 100, outputs(4), TARGETS),
    ]
    table = judge_shares(classification, CLIPS, points, 500, 0.95, 3)
    assert table[["share", "train_clips", "metric"]].to_numpy().tolist() == [
        ["0.1", 10, 0.5],
        ["0.5", 50, 0.9],
        ["all", 100, 0.9],
    ]
    right = np.arange(40) >= 4
    expected = bootstrap_interval(np.stack([right, np.ones(40)], 1), 500, 0.95, np.random.default_rng(3))
    assert table[["low", "high"]].to_numpy()[1:].tolist() == [[expected.low, expected.high]] * 2
    groups = np.repeat(np.arange(10), 4)
    grouped = judge_shares(classification, CLIPS, points, 500, 0.95, 3, groups)
    # The mistakes of one group are drawn together.
    assert grouped["high"][1] - grouped["low"][1] > 1.5 * (expected.high - expected.low)


def test_no_models_are_no_rows() -> None:
    table = judge_shares(classification, CLIPS, [], 500, 0.95, 0)
    assert table.empty
    assert list(table) == ["share", "train_clips", "metric", "low", "high"]


def test_the_picture_has_the_clips_on_a_logarithmic_axis() -> None:
    points = [Point("0.1", 1000, outputs(20), TARGETS), Point("all", 10_000, outputs(4), TARGETS)]
    axes = draw_learning_curve(judge_shares(classification, CLIPS, points, 500, 0.95, 3), "accuracy").axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_lines()[0].get_xydata() == pytest.approx(np.array([[1000, 0.5], [10_000, 0.9]]))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1,000\n0.1", "10,000\nall"]
    assert [text.get_text() for text in axes.texts] == ["50.0 %", "90.0 %"]
    assert axes.get_title(loc="left") == "Accuracy by number of training clips"
