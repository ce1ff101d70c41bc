"""Calibration against closed forms and models whose confidence is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.special

from audioml.evaluation.calibration import (
    fit_temperature,
    judge_calibration,
    measure_calibration,
    merger,
    tabulate_reliability,
)
from audioml.inference.description import Description
from audioml.inference.predictor import Predictor, open_session


@pytest.fixture(scope="module")
def predictor(tone_model) -> Predictor:
    network, description = tone_model
    return Predictor.of(
        Description(**{**description, "input_shape": tuple(description["input_shape"])}), open_session(network)
    )


def draw(n: int, overconfidence: float, n_labels: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits and the truth drawn from the probabilities that the logits over `overconfidence` have."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 2, (n, n_labels))
    probabilities = scipy.special.softmax(logits, axis=1)
    truth = (probabilities.cumsum(axis=1) < generator.random((n, 1))).sum(axis=1)
    return (overconfidence * logits).astype(np.float32), truth


@pytest.mark.parametrize("overconfidence", [0.5, 1.0, 3.0])
def test_the_temperature_is_how_far_logits_are_overconfident(predictor, overconfidence):
    logits, truth = draw(4000, overconfidence)
    found = fit_temperature(predictor, logits, np.arange(len(logits)), truth)
    assert found == pytest.approx(overconfidence, rel=0.1)


def test_what_is_calibrated_is_the_clip_not_the_window(predictor):
    logits, truth = draw(2000, 2.0)
    # Windows of one clip that agree: the clip's probability is that of each of them.
    found = fit_temperature(predictor, np.repeat(logits, 3, axis=0), np.repeat(np.arange(2000), 3), truth)
    assert found == pytest.approx(fit_temperature(predictor, logits, np.arange(2000), truth), rel=1e-3)


@pytest.mark.parametrize("n", [20, 500])
def test_a_model_without_a_mistake_is_not_made_infinitely_sure(predictor, n):
    logits = np.tile(np.array([[2.0, 0.0]], np.float32), (n, 1))
    truth = np.zeros(n, int)
    found = fit_temperature(predictor, logits, np.arange(n), truth)
    sure = merger(predictor, logits, np.arange(n))(found)[:, 0]
    # Platt's targets for n clips that are all right.
    np.testing.assert_allclose(sure, (n + 1) / (n + 2), atol=2e-4)


def test_the_predictor_divides_by_the_temperature(predictor, tone_wav):
    clips = [tone_wav(300.0), tone_wav(2500.0)]
    warm = replace(predictor, description=replace(predictor.description, temperature=2.0))
    raw = np.concatenate([predictor.run_features(predictor.extract(clip)) for clip in clips])
    np.testing.assert_allclose(warm.predict_outputs(clips), scipy.special.softmax(raw / 2, axis=1), atol=1e-6)


def test_clips_come_in_their_order_whatever_that_of_the_windows(predictor):
    logits, _ = draw(5, 1.0)
    clip_of = np.array([3, 0, 4, 1, 2])
    merged = merger(predictor, logits, clip_of)(1.0)
    np.testing.assert_allclose(merged[clip_of], scipy.special.softmax(logits, axis=1), atol=1e-6)


def test_errors_by_hand():
    confidence, right = [0.9, 0.92, 0.55, 0.55], [1, 0, 1, 0]
    # Bins of a fifteenth: the pair at 0.55 is half right, that at 0.9 and 0.92 too.
    assert measure_calibration(confidence, right)["ece"] == pytest.approx((0.05 * 2 + 0.41 * 2) / 4)
    # Fifteen bins for four clips: each clip is one of its own.
    assert measure_calibration(confidence, right)["adaptive_ece"] == pytest.approx((0.1 + 0.92 + 0.45 + 0.55) / 4)


def test_error_agrees_with_torchmetrics():
    import torch
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, truth = draw(3000, 2.5, n_labels=6)
    probabilities = scipy.special.softmax(logits, axis=1)
    ours = measure_calibration(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth)["ece"]
    theirs = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(truth), num_classes=6, n_bins=15
    )
    assert ours == pytest.approx(float(theirs), abs=1e-5)
    assert ours > 0.05


def test_the_bins_of_the_diagram_hold_all_clips():
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0, 1, 500)
    table = tabulate_reliability(np.append(confidence, [0.0, 1.0]), np.ones(502))
    assert table["n"].sum() == 502
    filled = table[table["n"] > 0]
    assert ((filled["low"] <= filled["confidence"]) & (filled["confidence"] <= filled["high"])).all()


def test_before_and_after(predictor):
    logits, truth = draw(3000, 3.0)
    warm = replace(predictor, description=replace(predictor.description, temperature=3.0))
    merge = merger(warm, logits, np.arange(3000))
    scores = predictor.task.score_clips(predictor.description.targets, truth, merge(3.0))
    found = judge_calibration(warm, scores, merge(3.0), merge(1.0))
    assert found.metrics["ece"] < 0.03 < 0.1 < found.metrics["ece_before"]
    assert found.before is not None
    plain = judge_calibration(predictor, scores, merge(1.0), merge(1.0))
    assert plain.before is None
    assert plain.metrics["ece"] == found.metrics["ece_before"]
