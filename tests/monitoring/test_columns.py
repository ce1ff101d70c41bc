"""What is taken of answers of each task, and the distance of embeddings."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.covariance import LedoitWolf

from audioml.monitoring.columns import Embedding, class_of, confidence_of, take_samples

EVENTS = [{"label": "dog", "confidence": 0.5}, {"label": "rain", "confidence": 0.9}]


@pytest.mark.parametrize(
    ("prediction", "classes", "confidence"),
    [
        ({"label": "yes", "probability": 0.7, "probabilities": {"yes": 0.7, "no": 0.3}}, ["yes"], 0.7),
        ({"tags": ["dog", "rain"], "probabilities": {"dog": 0.6, "rain": 0.9}}, ["dog", "rain"], 0.9),
        ({"tags": [], "probabilities": {"dog": 0.2, "rain": 0.1}}, ["(none)"], 0.2),
        ({"events": EVENTS}, ["dog", "rain"], 0.7),
        ({"events": []}, ["(none)"], math.nan),
        ({"text": "one two", "confidence": 0.8, "words": []}, [], 0.8),
        ({"speaker": "ann", "similarity": 0.6, "embedding": [1.0]}, ["ann"], 0.6),
    ],
)
def test_classes_and_confidence(prediction: dict[str, Any], classes: list[str], confidence: float) -> None:
    assert class_of(prediction) == classes
    assert confidence_of(prediction) == pytest.approx(confidence, nan_ok=True)


def test_distance_is_mahalanobis_of_standardised_dimensions() -> None:
    generator = np.random.default_rng(0)
    known = (generator.normal(size=(500, 6)) @ generator.normal(size=(6, 6)) * 100 + 7).astype(np.float32)
    fitted = LedoitWolf().fit((known - known.mean(axis=0)) / known.std(axis=0))
    other = known[:20] + 50
    squares = fitted.mahalanobis((other - known.mean(axis=0)) / known.std(axis=0))
    np.testing.assert_allclose(Embedding.fit(known).distances(other), np.sqrt(squares / 6), rtol=1e-3)
    assert np.sqrt(np.mean(Embedding.fit(known).distances(known) ** 2)) == pytest.approx(1.0, abs=0.15)


def test_a_dimension_that_never_changes_does_no_harm() -> None:
    known = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    known[:, 1] = 5
    assert np.isfinite(Embedding.fit(known).distances(known)).all()


def test_answers_are_compared_with_validation_clips_only() -> None:
    side = {
        **dict.fromkeys(["rms_dbfs", "noise_dbfs", "clipped_share", "silent_share", "bandwidth_hz", "duration_s"], 1.0),
        "sample_rate": 8000,
    }
    said = '{"label": "yes", "probability": 0.5}'
    embedding = np.array([1.0, 2.0], np.float32)
    reference = pd.DataFrame(
        [
            {**side, "split": split, "group": group, "prediction": prediction, "embedding": embedding}
            for split, group, prediction in (("train", 0, None), ("train", 1, None), ("validation", 1, said))
        ]
    )
    now = pd.DataFrame([{**side, "prediction": said, "embedding": None}])
    samples = take_samples(reference, now)
    sizes = {name: (len(then.values), len(after.values)) for name, (then, after) in samples.items()}
    assert sizes["rms_dbfs"] == sizes["sample_rate"] == (3, 1)
    assert sizes["confidence"] == sizes["class"] == (1, 1)
    assert sizes["embedding"] == (1, 0)
    groups = samples["rms_dbfs"][0].groups
    assert groups is not None
    assert groups.tolist() == [0, 1, 1]
    assert samples["rms_dbfs"][1].groups is None
