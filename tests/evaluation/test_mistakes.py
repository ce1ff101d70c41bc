"""Which clips are mistakes, in which order, and what is shown of one."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import soundfile

from audioml.evaluation.mistakes import rank_mistakes, show_mistake


def test_the_most_confident_mistake_comes_first():
    scores = np.array([[0, 1], [1, 1], [0, 1], [0, 1]], dtype=float)
    predictions = [{"probability": p} for p in (0.4, 0.99, 0.9, 0.6)]
    assert rank_mistakes(scores, predictions).tolist() == [2, 3, 0]


def test_error_rates_are_bad_when_high():
    scores = np.array([[0, 4], [1, 4], [3, 4], [6, 4]], dtype=float)
    assert rank_mistakes(scores, [{}] * 4, higher_is_better=False).tolist() == [3, 2, 1]


def test_clips_without_anything_to_score_are_no_mistakes():
    assert rank_mistakes(np.array([[0.0, 0.0], [0.0, 1.0]]), [{}] * 2).tolist() == [1]
    assert rank_mistakes(np.empty((0, 2)), []).tolist() == []


def test_what_is_shown_of_a_mistake():
    buffer = io.BytesIO()
    generator = np.random.default_rng(0)
    stereo = generator.uniform(-0.4, 0.4, (80_000, 2)).astype(np.float32)
    soundfile.write(buffer, stereo, 8000, format="FLAC", subtype="PCM_16")
    row = pd.Series({"path": "a.flac", "label": "yes", "duration_s": 10.0, "speaker": "ann", "room": None, "take": 3})
    shown = show_mistake(row, {"label": "no", "probability": 0.7}, buffer.getvalue())
    assert (shown.actual, shown.predicted, shown.confidence) == ("yes", "no", 0.7)
    assert (shown.duration_s, shown.shown_s, shown.sample_rate) == (10.0, 6.0, 8000)
    assert shown.details == {"speaker": "ann", "take": "3"}
    played, rate = soundfile.read(io.BytesIO(shown.audio), dtype="float32")
    assert rate == 8000
    assert played == pytest.approx(stereo.mean(axis=1)[:48_000], abs=1e-4)
