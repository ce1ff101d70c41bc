"""The champion on labels that came later, for each kind of answer."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score, recall_score

from audioml.inference.predictor import Predictor
from audioml.monitoring.retest import Retest, retest
from audioml.plugins import load_plugin

LABELS = ["no", "up", "yes"]


def predictor_of(task: str, targets: dict[str, Any], params: dict[str, Any] | None = None) -> Predictor:
    description = SimpleNamespace(task={"name": task, "params": params or {}}, targets=targets)
    return cast(Predictor, SimpleNamespace(task=load_plugin("tasks", task), description=description))


def judge(predictor: Predictor, answers: list[dict[str, Any]], labels: list[str], **registered: float) -> Retest:
    labelled = pd.DataFrame({"prediction": [json.dumps(a) for a in answers], "label": labels})
    return retest(predictor, registered, labelled, min_labels=50, max_loss=0.02, confidence=0.95)


def say(label: str) -> dict[str, Any]:
    probabilities = {name: 0.8 if name == label else 0.1 for name in sorted(LABELS, key=lambda name: name != label)}
    return {"label": label, "probability": 0.8, "probabilities": probabilities}


def test_accuracy_with_its_interval() -> None:
    answers = [say("yes")] * 90 + [say("no")] * 10
    found = judge(predictor_of("classification", {"labels": LABELS}), answers, ["yes"] * 100, test_accuracy=0.97)
    assert (found.metric, found.n, found.registered) == ("accuracy", 100, 0.97)
    assert found.found is not None
    assert found.found.value == pytest.approx(0.9)
    # The normal approximation: 0.9 ± 1.96 * 0.03.
    assert (found.found.low, found.found.high) == pytest.approx((0.841, 0.959), abs=0.015)
    # 0.959 is more than 0.97 less 0.02.
    assert not found.failed
    assert judge(predictor_of("classification", {"labels": LABELS}), answers, ["yes"] * 100, test_accuracy=0.99).failed


def test_labels_that_the_model_does_not_know_are_wrong() -> None:
    labels = ["yes"] * 60 + ["dog"] * 40
    found = judge(predictor_of("classification", {"labels": LABELS}), [say("yes")] * 100, labels, test_accuracy=0.9)
    assert found.found is not None
    assert (found.found.value, found.unknown, found.failed) == (0.6, 40, True)
    none = judge(predictor_of("classification", {"labels": LABELS}), [say("yes")] * 60, ["dog"] * 60)
    assert none.found is not None
    assert (none.found.value, none.unknown, none.failed) == (0.0, 60, False)


def test_the_metric_that_was_chosen() -> None:
    said, true = ["yes"] * 80 + ["no"] * 40, ["yes"] * 60 + ["no"] * 60
    predictor = predictor_of("classification", {"labels": LABELS, "metric": "uar"}, {"metric": "uar"})
    found = judge(predictor, [say(label) for label in said], true, test_uar=0.9)
    assert found.found is not None
    assert found.metric == "uar"
    assert found.found.value == pytest.approx(recall_score(true, said, average="macro"))


def test_tags() -> None:
    generator = np.random.default_rng(0)
    truth = generator.random((80, 2)) < 0.5
    scores = np.clip(truth * 0.3 + generator.random((80, 2)) * 0.7, 0, 1)
    names = ["dog", "rain"]
    answers = [{"tags": [], "probabilities": dict(zip(names, map(float, row), strict=True))} for row in scores]
    labels = [";".join(np.array(names)[row]) or "(none)" for row in truth]
    targets = {"labels": names, "thresholds": [0.5, 0.5], "separator": ";"}
    found = judge(predictor_of("tagging", targets), answers, labels, test_map=0.5)
    assert found.found is not None
    expected = average_precision_score(truth, scores.astype(np.float32), average="macro")
    assert found.found.value == pytest.approx(expected)


def test_texts_are_judged_by_word_errors() -> None:
    answers = [{"text": "one two three", "confidence": 0.9}] * 50 + [{"text": "one two", "confidence": 0.9}] * 50
    found = judge(predictor_of("ctc", {}), answers, ["One two, three."] * 100, test_wer=0.05)
    assert found.found is not None
    assert found.metric == "wer"
    assert found.found.value == pytest.approx(50 / 300)
    assert found.failed


def test_answers_that_say_too_little_are_not_judged() -> None:
    found = judge(
        predictor_of("speaker", {}), [{"speaker": "ann", "similarity": 0.9, "embedding": []}] * 60, ["a"] * 60
    )
    assert found.found is None
    assert found.skipped == "answers of the task speaker do not say enough to be judged later"


def test_too_few_labels() -> None:
    found = judge(predictor_of("classification", {"labels": LABELS}), [say("yes")] * 49, ["yes"] * 49)
    assert found.skipped == "49 labelled recordings; 50 are needed"
