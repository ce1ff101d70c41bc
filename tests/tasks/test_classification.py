from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import scipy.special
import sklearn.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

from audioml.errors import DatasetError, ParamsError
from audioml.tasks import classification as task

TARGETS = {"labels": ["bird", "cat", "dog", "emu"]}
PARAMS = task.Params()


def manifest(*labels: str) -> pd.DataFrame:
    return pd.DataFrame({"clip_id": [f"c{i}" for i in range(len(labels))], "label": labels})


def draw_outputs(n: int, n_labels: int = 4, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return scipy.special.softmax(rng.normal(size=(n, n_labels)) * 2, axis=1).astype(np.float32)


def test_targets_are_the_sorted_labels() -> None:
    assert task.fit_targets(PARAMS, manifest("dog", "cat", "dog", "10", "9")) == {"labels": ["10", "9", "cat", "dog"]}


def test_one_label_only_is_an_error() -> None:
    with pytest.raises(DatasetError, match=r"at least 2 labels.*1.*\['dog'\]"):
        task.fit_targets(PARAMS, manifest("dog", "dog"))


def test_a_label_that_is_called_as_the_answer_to_strangers_is_refused() -> None:
    table = manifest("dog", "unknown")
    assert task.fit_targets(PARAMS, table)["labels"] == ["dog", "unknown"]
    with pytest.raises(ParamsError, match=r"task\.unknown_share.*Rename the label"):
        task.fit_targets(task.Params(unknown_share=0.02), table)


def test_label_without_training_clips_is_named() -> None:
    with pytest.raises(DatasetError, match=r"\['fox'\]"):
        task.truth(TARGETS, manifest("dog", "fox"))


def test_encoded_targets_are_one_hot_rows() -> None:
    encoded = task.encode_targets(PARAMS, TARGETS, manifest("dog", "bird"))
    assert encoded.dtype == np.float32
    assert encoded.tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]


def test_head_is_a_linear_layer_on_the_mean_over_frames() -> None:
    head = task.build_head(PARAMS, TARGETS, 8)
    x = torch.randn(3, 8, 11)
    expected = x.mean(dim=2) @ head[2].weight.T + head[2].bias
    assert torch.allclose(head(x), expected, atol=1e-6)


def test_a_head_may_see_the_largest_values_too() -> None:
    head = task.build_head(task.Params(pooling="mean_and_max"), TARGETS, 8)
    x = torch.randn(3, 8, 11)
    pooled = torch.cat([x.mean(dim=2), x.max(dim=2).values], dim=1)
    assert torch.allclose(head(x), pooled @ head[1].weight.T + head[1].bias, atol=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_is_the_smoothed_cross_entropy(smoothing: float) -> None:
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    soft = torch.from_numpy(draw_outputs(6))
    smoothed = soft * (1 - smoothing) + smoothing / 4
    expected = -(smoothed.numpy() * scipy.special.log_softmax(logits.numpy(), axis=1)).sum(axis=1).mean()
    assert float(task.loss(task.Params(label_smoothing=smoothing), logits, soft)) == pytest.approx(expected, rel=1e-5)


@given(st.integers(1, 6), st.floats(1e-3, 1e3), st.integers(0, 99))
def test_merged_output_is_the_mean_of_softmaxes(n_windows: int, scale: float, seed: int) -> None:
    logits = (np.random.default_rng(seed).normal(size=(n_windows, 4)) * scale).astype(np.float32)
    merged = task.merge_outputs(logits)
    np.testing.assert_allclose(merged, scipy.special.softmax(logits.astype(np.float64), axis=1).mean(axis=0), atol=1e-6)
    assert merged.sum() == pytest.approx(1.0, abs=1e-5)


@given(st.integers(1, 40), st.integers(2, 5), st.integers(0, 99))
def test_calibration_loss_is_the_cross_entropy_of_platts_targets(n: int, n_labels: int, seed: int) -> None:
    outputs, truth = draw_outputs(n, n_labels, seed), np.arange(n) % n_labels
    targets = np.full((n, n_labels), 1 / (n + 2) / (n_labels - 1))
    targets[np.arange(n), truth] = (n + 1) / (n + 2)
    expected = -(targets * np.log(outputs.astype(np.float64))).sum(axis=1).mean()
    assert task.calibration_loss(truth, outputs) == pytest.approx(expected, rel=1e-6)


@given(st.integers(1, 60), st.floats(0.01, 0.9), st.integers(0, 99))
def test_no_larger_share_than_asked_for_is_rejected(n: int, share: float, seed: int) -> None:
    outputs, truth = draw_outputs(n, seed=seed), np.arange(n) % 4
    targets = task.tune_outputs(task.Params(unknown_share=share), TARGETS, truth, outputs)
    rejected = [task.describe(targets, output)["label"] == "unknown" for output in outputs]
    assert n * share - 1 < sum(rejected) <= n * share
    assert task.measure(targets, truth, outputs)["rejected_share"] == pytest.approx(np.mean(rejected))


def test_without_a_share_nothing_is_rejected() -> None:
    assert task.tune_outputs(PARAMS, TARGETS, np.arange(4), draw_outputs(4)) == TARGETS


def test_an_unknown_sound_keeps_its_nearest_label() -> None:
    targets = TARGETS | {"unknown_below": 0.5}
    found = task.describe(targets, np.array([0.1, 0.4, 0.3, 0.2], np.float32))
    assert list(found) == ["label", "nearest", "probability", "probabilities"]
    assert (found["label"], found["nearest"], found["probability"]) == ("unknown", "cat", pytest.approx(0.4))
    known = task.describe(targets, np.array([0.1, 0.6, 0.2, 0.1], np.float32))
    assert (known["label"], known["nearest"]) == ("cat", "cat")


def test_accuracy_of_accepted_clips() -> None:
    outputs = np.array([[0.9, 0.1, 0, 0], [0.9, 0.1, 0, 0], [0.4, 0.3, 0.3, 0]], np.float32)
    metrics = task.measure(TARGETS | {"unknown_below": 0.5}, np.array([0, 1, 1]), outputs)
    assert metrics["accuracy"] == pytest.approx(1 / 3)
    assert metrics["accuracy_of_accepted"] == pytest.approx(1 / 2)
    nobody = task.measure(TARGETS | {"unknown_below": 0.99}, np.array([0, 1, 1]), outputs)
    assert nobody["rejected_share"] == 1
    assert "accuracy_of_accepted" not in nobody


def test_description_is_json_with_the_largest_probability_first() -> None:
    found = task.describe(TARGETS, np.array([0.1, 0.6, 0.05, 0.25], np.float32))
    assert found["label"] == "cat"
    assert found["probability"] == pytest.approx(0.6)
    assert list(found["probabilities"]) == ["cat", "emu", "bird", "dog"]
    assert all(type(value) is float for value in found["probabilities"].values())


@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_those_of_sklearn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    outputs = draw_outputs(40, seed=seed)
    if seed == 3:
        outputs[:, 1] = 0  # a label that is never predicted
    truth = rng.integers(0, 3 if seed == 4 else 4, 40)  # in one case a label without clips
    predicted = outputs.argmax(axis=1)
    metrics = task.measure(TARGETS, truth, outputs)
    assert metrics["accuracy"] == pytest.approx(sklearn.metrics.accuracy_score(truth, predicted))
    for name in ("precision", "recall", "f1"):
        score = getattr(sklearn.metrics, f"{name}_score")
        assert metrics[f"macro_{name}"] == pytest.approx(score(truth, predicted, average="macro", zero_division=0))
    each = sklearn.metrics.f1_score(truth, predicted, average=None, labels=range(4), zero_division=0)
    assert [metrics[f"f1/{label}"] for label in TARGETS["labels"]] == pytest.approx(each.tolist())


def test_primary_metric_is_the_ratio_of_the_clips_scores() -> None:
    outputs, truth = draw_outputs(30), np.arange(30) % 4
    scores = task.score_clips(TARGETS, truth, outputs)
    assert scores.shape == (30, 2)
    ratio = scores[:, 0].sum() / scores[:, 1].sum()
    assert ratio == pytest.approx(task.measure(TARGETS, truth, outputs)[task.PRIMARY])


def test_unweighted_average_recall_is_the_metric_where_params_say_so() -> None:
    targets = task.fit_targets(task.Params(metric="uar"), manifest(*TARGETS["labels"]))
    assert targets == TARGETS | {"metric": "uar"}
    outputs, truth = draw_outputs(40), np.repeat(np.arange(4), [22, 12, 5, 1])
    predicted = outputs.argmax(axis=1)
    expected = sklearn.metrics.balanced_accuracy_score(truth, predicted)
    assert task.measure(targets, truth, outputs)["uar"] == pytest.approx(expected)
    assert "uar" not in task.measure(TARGETS, truth, outputs)
    counts = np.random.default_rng(1).multinomial(40, np.full(40, 1 / 40), size=20)
    scores = task.score_resamples(targets, truth, outputs, counts)
    for own, score in zip(counts, scores, strict=True):
        drawn = np.repeat(np.arange(40), own)
        assert score == pytest.approx(
            sklearn.metrics.recall_score(
                truth[drawn], predicted[drawn], average="macro", labels=np.unique(truth[drawn])
            )
        )


def test_tables_and_figures_hold_the_same_counts() -> None:
    outputs, truth = draw_outputs(30), np.arange(30) % 4
    tables = task.tables(TARGETS, truth, outputs)
    assert list(tables["confusion"].columns) == ["actual", "predicted"]
    assert list(tables["per_label"].columns) == ["label", "precision", "recall", "f1", "support"]
    assert tables["per_label"]["support"].tolist() == [8, 8, 7, 7]
    figures = task.figures(TARGETS, truth, outputs)
    counts = sklearn.metrics.confusion_matrix(truth, outputs.argmax(axis=1), labels=range(4))
    shown = {tuple(map(int, text.get_position())): int(text.get_text()) for text in figures["confusion"].axes[0].texts}
    assert shown == {(c, r): counts[r, c] for r, c in np.ndindex(counts.shape) if counts[r, c]}
    crossed = pd.crosstab(tables["confusion"]["actual"], tables["confusion"]["predicted"])
    assert crossed.loc["bird", "cat"] == counts[0, 1]
    bars = [patch.get_width() for patch in figures["f1_per_label"].axes[0].patches]
    assert sorted(bars) == pytest.approx(sorted(tables["per_label"]["f1"]))


def test_import_needs_no_heavy_library() -> None:
    import subprocess
    import sys

    heavy = "{'torch', 'sklearn', 'matplotlib', 'pandas'}"
    code = f"import sys, audioml.tasks.classification; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
