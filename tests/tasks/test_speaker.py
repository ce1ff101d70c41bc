from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from audioml.errors import DatasetError
from audioml.tasks import speaker as task
from audioml.tasks._speaker_head import SpeakerHead

PARAMS = task.Params(embedding=4)
TARGETS: dict[str, Any] = {"labels": ["ann", "bob"], "embedding": 4}


def manifest(*labels: str) -> pd.DataFrame:
    return pd.DataFrame({"clip_id": [f"c{i}" for i in range(len(labels))], "label": labels})


def draw_clips(n: int = 30, n_speakers: int = 4, seed: int = 0, spread: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Speakers of clips, and outputs: embeddings around a centre for each, and similarities to two directions."""
    rng = np.random.default_rng(seed)
    speaker = rng.integers(n_speakers, size=n)
    embeddings = rng.standard_normal((n_speakers, 4))[speaker] + spread * rng.standard_normal((n, 4))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    truth = np.array([f"s{i}" for i in speaker], dtype=object)
    return truth, np.concatenate([embeddings, embeddings[:, :2]], axis=1).astype(np.float32)


def find_equal_error(same: list[float], different: list[float]) -> float:
    """By both rates at all thresholds."""
    thresholds = np.array([-1.0, *sorted([*same, *different])])[:, None]
    rejects, accepts = (np.array(same) <= thresholds).mean(axis=1), (np.array(different) > thresholds).mean(axis=1)
    return float(np.interp(0, rejects - accepts, rejects))


def pairs_of(truth: np.ndarray, outputs: np.ndarray) -> tuple[list[float], list[float]]:
    same, different = [], []
    for i, j in itertools.combinations(range(len(truth)), 2):
        similarity = float(outputs[i, :4].astype(np.float64) @ outputs[j, :4].astype(np.float64))
        (same if truth[i] == truth[j] else different).append(similarity)
    return same, different


def test_targets_are_the_training_speakers() -> None:
    assert task.fit_targets(PARAMS, manifest("bob", "ann", "bob")) == TARGETS
    with pytest.raises(DatasetError, match=r"at least 2 for training, but there are 1: \['bob'\]"):
        task.fit_targets(PARAMS, manifest("bob"))


def test_encoded_targets_have_a_one_at_the_speaker() -> None:
    assert task.encode_targets(PARAMS, TARGETS, manifest("bob", "ann")).tolist() == [[0, 1], [1, 0]]
    with pytest.raises(DatasetError, match=r"\['eve'\] are in validation only.*split.group to null"):
        task.encode_targets(PARAMS, TARGETS, manifest("eve"))


def test_the_head_gives_embeddings_of_length_one_and_cosines() -> None:
    head = SpeakerHead(3, 4, 2).eval()
    outputs = head(torch.randn(5, 3, 20))
    assert outputs.shape == (5, 6)
    embeddings = outputs[:, :4]
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(5))
    directions = head.directions / head.directions.norm(dim=1, keepdim=True)
    torch.testing.assert_close(outputs[:, 4:], embeddings @ directions.T)


def test_loss_has_the_margin_at_the_own_speaker() -> None:
    similarity = torch.tensor([[0.5, 0.4]])
    outputs = torch.cat([torch.zeros(1, 4), similarity], dim=1)
    own, other = np.exp(30 * (0.5 - 0.2)), np.exp(30 * 0.4)
    expected = -np.log(own / (own + other))
    assert float(task.loss(PARAMS, outputs, torch.tensor([[1.0, 0.0]]))) == pytest.approx(expected, rel=1e-5)
    without = task.loss(task.Params(embedding=4, margin=0), outputs, torch.tensor([[1.0, 0.0]]))
    assert float(without) < float(task.loss(PARAMS, outputs, torch.tensor([[1.0, 0.0]])))


def test_windows_are_merged_to_one_embedding() -> None:
    _, outputs = draw_clips(3)
    merged = task.merge_tracks(TARGETS, outputs, np.zeros(3), np.ones(3))
    mean = outputs[:, :4].mean(axis=0)
    np.testing.assert_allclose(merged[:4], mean / np.linalg.norm(mean), rtol=1e-5)
    # The similarities are those of the merged embedding.
    np.testing.assert_allclose(merged[4:], merged[:2], rtol=1e-5)


def test_embeddings_are_what_pairs_are_compared_by() -> None:
    truth, outputs = draw_clips()
    embeddings = task.embeddings(TARGETS, outputs)
    assert (embeddings.shape, embeddings.dtype) == ((30, 4), np.float32)
    trials = task.make_trials(TARGETS, truth, outputs)
    cosines = (embeddings @ embeddings.T)[trials.first, trials.second]
    np.testing.assert_allclose(trials.similarity, cosines, atol=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_equal_error_rate_is_that_of_all_thresholds(seed: int) -> None:
    truth, outputs = draw_clips(seed=seed)
    metrics = task.measure(TARGETS, truth, outputs)
    assert metrics["eer"] == pytest.approx(find_equal_error(*pairs_of(truth, outputs)))
    assert metrics["pairs"] == 30 * 29 / 2
    everyone = np.ones((1, len(truth)))
    assert task.score_resamples(TARGETS, truth, outputs, everyone) == pytest.approx([metrics["eer"]])


def test_resamples_count_clips_as_often_as_they_are_drawn() -> None:
    truth, outputs = draw_clips(12, 3)
    counts = np.random.default_rng(1).multinomial(12, np.full(12, 1 / 12), size=4)
    found = task.score_resamples(TARGETS, truth, outputs, counts)
    for row, rate in zip(counts, found, strict=True):
        drawn = np.repeat(np.arange(12), row)
        pairs = [(i, j) for i, j in itertools.combinations(drawn, 2) if i != j]
        alike = {True: [], False: []}
        for i, j in pairs:
            alike[bool(truth[i] == truth[j])].append(float(outputs[i, :4].astype(float) @ outputs[j, :4].astype(float)))
        assert rate == pytest.approx(find_equal_error(alike[True], alike[False]))
    alone = np.zeros((1, 12))
    alone[0, 0] = 12
    assert np.isnan(task.score_resamples(TARGETS, truth, outputs, alone)).all()


def test_the_detection_cost_of_perfect_and_of_useless_embeddings() -> None:
    truth, outputs = draw_clips(spread=0.0)
    assert task.measure(TARGETS, truth, outputs)["min_dcf"] == 0
    assert task.measure(TARGETS, truth, outputs)["eer"] == 0
    outputs[:, :4] = [1, 0, 0, 0]
    assert task.measure(TARGETS, truth, outputs)["min_dcf"] == 1


def test_many_pairs_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task, "MAX_TRIALS", 60)
    truth, outputs = draw_clips(40)
    trials = task.make_trials(TARGETS, truth, outputs)
    assert len(trials.same) == 60
    assert trials.same.sum() == 30
    assert (truth[trials.first] == truth[trials.second]).tolist() == trials.same.tolist()
    again = task.make_trials(TARGETS, truth, outputs)
    assert again.first.tolist() == trials.first.tolist()


def test_a_threshold_is_learned_and_judged() -> None:
    truth, outputs = draw_clips(60)
    tuned = task.tune_outputs(PARAMS, TARGETS, truth, outputs)
    metrics = task.measure(tuned, truth, outputs)
    assert metrics["false_accepts"] == pytest.approx(metrics["eer"], abs=0.02)
    assert metrics["false_rejects"] == pytest.approx(metrics["eer"], abs=0.02)
    # One speaker alone gives no pairs of two.
    assert task.tune_outputs(PARAMS, TARGETS, truth[:1], outputs[:1]) == TARGETS


def test_an_answer_is_the_nearest_training_speaker_and_the_embedding() -> None:
    answer = task.describe(TARGETS, np.array([0.6, 0.8, 0, 0, 0.6, 0.8], np.float32))
    assert answer == {"speaker": "bob", "similarity": pytest.approx(0.8), "embedding": [0.6, 0.8, 0, 0]}


def test_training_speakers_are_identified() -> None:
    outputs = np.eye(6, dtype=np.float32)[[4, 5, 4]]
    metrics = task.measure(TARGETS, np.array(["ann", "bob", "bob"], object), outputs)
    assert metrics["identified"] == pytest.approx(2 / 3)


def test_clips_in_wrong_pairs_are_the_mistakes() -> None:
    truth, outputs = draw_clips(20, 2, spread=0.05)
    outputs[0, :4] = -outputs[0, :4]
    errors, pairs = task.score_clips(TARGETS, truth, outputs).T
    assert pairs.tolist() == [19] * 20
    assert errors.argmax() == 0


def test_tables_and_figures() -> None:
    truth, outputs = draw_clips(40)
    tuned = task.tune_outputs(PARAMS, TARGETS, truth, outputs)
    tables = task.tables(tuned, truth, outputs)
    assert tables["per_speaker"]["n"].sum() == 40
    assert list(tables) == ["per_speaker"]
    assert tables["per_speaker"]["wrong_pairs"].is_monotonic_decreasing
    _, rejects, accepts = task._error_rates(task.make_trials(tuned, truth, outputs))
    assert pd.Series(rejects).is_monotonic_increasing
    assert pd.Series(accepts).is_monotonic_decreasing
    assert (rejects[0], accepts[0]) == (0, 1)
    drawn = task.figures(tuned, truth, outputs)
    assert set(drawn) == {"error_rates", "similarities"}
    labels = [text.get_text() for text in drawn["similarities"].axes[0].get_legend().get_texts()]
    assert labels[0].startswith("one speaker (")


def test_the_threshold_is_amid_pairs_that_lie_apart() -> None:
    angles = np.radians([0, 10, 100, 120])
    outputs = np.zeros((4, 4), dtype=np.float32)
    outputs[:, :2] = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    targets = {"labels": ["ann", "bob"], "embedding": 2}
    truth = np.array(["ann", "ann", "bob", "bob"], dtype=object)
    tuned = task.tune_outputs(task.Params(embedding=2), targets, truth, outputs)
    # Nearest of two speakers are 10 and 100 degrees; farthest of one are 100 and 120.
    between = (np.cos(np.radians(90)) + np.cos(np.radians(20))) / 2
    assert tuned["accept_above"] == pytest.approx(between, abs=1e-4)


def test_one_clip_has_no_error_rate() -> None:
    outputs, targets = np.ones((1, 3), dtype=np.float32), {"labels": ["ann"], "embedding": 2}
    rates = task.score_resamples(targets, np.array(["ann"], dtype=object), outputs, np.ones((5, 1)))
    assert rates.shape == (5,)
    assert np.isnan(rates).all()
