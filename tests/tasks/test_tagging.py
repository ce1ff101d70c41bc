from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import scipy.special
import sklearn.metrics
import torch

from audioml.errors import DatasetError
from audioml.tasks import tagging as task
from audioml.tasks._ranking import average_precisions, best_threshold, label_weighted_ranking

TARGETS = {"labels": ["bird", "cat", "dog"], "thresholds": [0.5, 0.4, 0.6], "separator": ";"}
PARAMS = task.Params()


def manifest(*labels: str) -> pd.DataFrame:
    return pd.DataFrame({"clip_id": [f"c{i}" for i in range(len(labels))], "label": labels})


def draw_clips(n: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truth and outputs; scores have ties, and some clips have no label."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, 3)) < [0.5, 0.3, 0.1]
    truth[:2, 2] = True
    outputs = np.round(np.clip(0.35 * truth + 0.7 * rng.random((n, 3)), 0, 1), 1 if seed % 2 else 6)
    return truth, outputs.astype(np.float32)


def test_targets_are_all_tags_of_the_training_clips() -> None:
    found = task.fit_targets(task.Params(separator=","), manifest("dog, cat", "(none)", "bird,dog"))
    assert found == {"labels": ["bird", "cat", "dog"], "thresholds": [0.5] * 3, "separator": ","}


def test_no_tag_at_all_is_an_error() -> None:
    with pytest.raises(DatasetError, match="none of 1 has any"):
        task.fit_targets(PARAMS, manifest("(none)"))


def test_encoded_targets_have_a_one_for_each_tag() -> None:
    encoded = task.encode_targets(PARAMS, TARGETS, manifest("dog;bird", "(none)", "cat"))
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]


def test_label_without_training_clips_is_named() -> None:
    with pytest.raises(DatasetError, match=r"\['fox'\]"):
        task.truth(TARGETS, manifest("dog;fox"))


def test_loss_is_the_binary_cross_entropy() -> None:
    logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    soft = torch.rand(6, 3, generator=torch.Generator().manual_seed(1))
    p = scipy.special.expit(logits.numpy().astype(np.float64))
    expected = -(soft.numpy() * np.log(p) + (1 - soft.numpy()) * np.log(1 - p)).mean()
    assert float(task.loss(PARAMS, logits, soft)) == pytest.approx(expected, rel=1e-5)


def test_merged_output_is_the_mean_of_sigmoids() -> None:
    logits = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32) * 50
    np.testing.assert_allclose(task.merge_outputs(logits), scipy.special.expit(logits).mean(axis=0), atol=1e-6)


def test_description_has_the_tags_above_their_thresholds_surest_first() -> None:
    found = task.describe(TARGETS, np.array([0.49, 0.45, 0.9], np.float32))
    assert found["tags"] == ["dog", "cat"]
    assert list(found["probabilities"]) == ["dog", "bird", "cat"]
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_with_counts_is_that_of_sklearn_with_weights(seed: int) -> None:
    truth, outputs = draw_clips(seed=seed)
    counts = np.random.default_rng(seed).multinomial(len(truth), np.full(len(truth), 1 / len(truth)), size=7)
    for label in range(3):
        found = average_precisions(truth[:, label], outputs[:, label], counts)
        for count, value in zip(counts, found, strict=True):
            drawn = np.repeat(np.arange(len(truth)), count)
            if truth[drawn, label].any():
                expected = sklearn.metrics.average_precision_score(truth[drawn, label], outputs[drawn, label])
                assert value == pytest.approx(expected)
            else:
                assert np.isnan(value)


def test_map_is_the_macro_average_precision_of_sklearn() -> None:
    truth, outputs = draw_clips()
    measured = task.measure(TARGETS, truth, outputs)
    assert measured["map"] == pytest.approx(sklearn.metrics.average_precision_score(truth, outputs, average="macro"))
    (resampled,) = task.score_resamples(TARGETS, truth, outputs, np.ones((1, len(truth))))
    assert resampled == pytest.approx(measured["map"])


def test_f1_is_that_of_sklearn() -> None:
    truth, outputs = draw_clips(seed=1)
    predicted = outputs >= np.array(TARGETS["thresholds"])
    measured = task.measure(TARGETS, truth, outputs)
    for average in ("micro", "macro"):
        expected = sklearn.metrics.f1_score(truth, predicted, average=average, zero_division=0)
        assert measured[f"{average}_f1"] == pytest.approx(expected)
    right, weight = task.score_clips(TARGETS, truth, outputs).sum(axis=0)
    assert right / weight == pytest.approx(measured["micro_f1"])
    assert measured["f1/dog"] == pytest.approx(sklearn.metrics.f1_score(truth[:, 2], predicted[:, 2]))


def test_lwlrap_is_the_label_ranking_precision_weighted_by_labels() -> None:
    truth, outputs = draw_clips()
    weights = truth.sum(axis=1)
    expected = sklearn.metrics.label_ranking_average_precision_score(truth, outputs, sample_weight=weights)
    assert label_weighted_ranking(truth, outputs) == pytest.approx(expected)


def test_a_label_that_no_clip_has_is_in_no_mean() -> None:
    truth, outputs = draw_clips()
    truth[:, 1] = False
    measured = task.measure(TARGETS, truth, outputs)
    assert measured["map"] == pytest.approx((measured["ap/bird"] + measured["ap/dog"]) / 2)
    assert "ap/cat" not in measured


@pytest.mark.parametrize("seed", range(4))
def test_the_best_threshold_has_the_highest_f1_of_all(seed: int) -> None:
    truth, outputs = draw_clips(seed=seed)
    chosen = best_threshold(truth[:, 0], outputs[:, 0], 0.5)
    tried = [*np.unique(outputs[:, 0]), chosen]
    scores = [sklearn.metrics.f1_score(truth[:, 0], outputs[:, 0].astype(float) >= t) for t in tried]
    assert scores[-1] == pytest.approx(max(scores))


def test_a_label_that_cannot_be_tuned_keeps_its_threshold() -> None:
    truth, outputs = draw_clips()
    truth[:, 1], truth[:, 2] = False, True
    thresholds = task.tune_outputs(PARAMS, TARGETS, truth, outputs)["thresholds"]
    assert thresholds[1:] == [0.4, 0.6]
    assert thresholds[0] != 0.5


def test_tables_and_figures_are_of_the_labels() -> None:
    truth, outputs = draw_clips()
    tables = task.tables(TARGETS, truth, outputs)
    assert tables["per_label"]["support"].tolist() == truth.sum(axis=0).tolist()
    missed = tables["taken_for"].set_index(["missed", "given"])["clips"]
    predicted = outputs >= np.array(TARGETS["thresholds"])
    expected = int((truth[:, 0] & ~predicted[:, 0] & predicted[:, 1] & ~truth[:, 1]).sum())
    assert missed.get(("bird", "cat"), 0) == expected
    assert tables["taken_for"]["clips"].is_monotonic_decreasing
    figures = task.figures(TARGETS, truth, outputs)
    assert set(task.REPORTED) <= set(figures)
    assert len(figures["precision_recall"].axes[0].get_lines()) == 3


def test_import_needs_no_heavy_library() -> None:
    import subprocess
    import sys

    heavy = "{'torch', 'sklearn', 'matplotlib', 'pandas'}"
    code = f"import sys, audioml.tasks.tagging; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
