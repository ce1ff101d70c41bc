"""The reference that a package carries, and what is measured for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audioml.audio.condition import measure_condition
from audioml.audio.decode import decode
from audioml.errors import StoreError
from audioml.inference.measures import MAX_BANDS, embed_features
from audioml.inference.predictor import Predictor
from audioml.inference.reference import REFERENCE, ReferenceClip, read_reference, write_reference
from audioml.store.files import hash_file, write_json


@pytest.fixture(scope="module")
def predictor(tone_model: tuple[Path, dict[str, Any]]) -> Predictor:
    write_json(tone_model[0].parent / "model.json", tone_model[1])
    return Predictor.load(tone_model[0].parent)


def test_reference_is_what_is_measured_and_said(
    predictor: Predictor, tone_wav: Callable[[float], bytes], tmp_path: Path
) -> None:
    low, high = tone_wav(250.0), tone_wav(2500.0)
    clips = [
        ReferenceClip("a", "train", 3, low),
        ReferenceClip("b", "validation", None, high),
        ReferenceClip("c", "train", None, b"no audio"),
    ]
    assert write_reference(tmp_path / REFERENCE, predictor, clips) == 2
    frame = read_reference(tmp_path)
    assert frame is not None
    assert frame["clip_id"].tolist() == ["a", "b"]
    assert frame["group"][0] == 3
    assert np.isnan(frame["group"][1])
    # Training clips would flatter the model.
    assert frame["prediction"].isna().tolist() == [True, False]
    assert json.loads(frame["prediction"][1]) == predictor.predict([high])[0]
    assert (frame["duration_s"][0], frame["sample_rate"][0]) == (0.5, 8000)
    condition = measure_condition(*decode(low))
    for name, value in vars(condition).items():
        assert frame[name][0] == np.float32(value)
    np.testing.assert_array_equal(frame["embedding"][0], embed_features(predictor.extract(low)))


def test_equal_clips_make_equal_files(predictor: Predictor, tone_wav: Callable[[float], bytes], tmp_path: Path) -> None:
    clips = [ReferenceClip("a", "validation", 0, tone_wav(250.0))]
    for name in ("one", "two"):
        write_reference(tmp_path / name, predictor, iter(clips))
    assert hash_file(tmp_path / "one") == hash_file(tmp_path / "two")


def test_without_clips_there_is_none(predictor: Predictor, tmp_path: Path) -> None:
    assert write_reference(tmp_path / REFERENCE, predictor, []) == 0
    assert read_reference(tmp_path) is None


def test_a_damaged_one_is_named(tmp_path: Path) -> None:
    (tmp_path / REFERENCE).write_bytes(b"no table")
    with pytest.raises(StoreError, match=r"reference.parquet is no table of reference clips"):
        read_reference(tmp_path)


def test_measures_are_made_where_they_are_asked_for(predictor: Predictor, tone_wav: Callable[[float], bytes]) -> None:
    clips = [tone_wav(250.0), b"no audio", tone_wav(2500.0)]
    plain, measured = predictor.predict_each(clips), predictor.predict_each(clips, measured=True)
    assert [getattr(answer, "measures", None) for answer in plain] == [None] * 3
    assert [getattr(answer, "prediction", None) for answer in plain] == [
        getattr(answer, "prediction", None) for answer in measured
    ]
    assert measured[2].measures.condition == measure_condition(*decode(clips[2]))  # type: ignore[union-attr]


@pytest.mark.parametrize("bins", [1, 40, MAX_BANDS, 257])
def test_embedding_is_mean_and_deviation_of_bands(bins: int) -> None:
    features = np.random.default_rng(0).normal(-30, 5, (3, bins, 50)).astype(np.float32)
    found = embed_features(features)
    edges = np.linspace(0, bins, min(bins, MAX_BANDS) + 1).astype(int)
    bands = [features[:, start:stop].astype(np.float64) for start, stop in pairwise(edges)]
    np.testing.assert_allclose(found[: len(bands)], [band.mean() for band in bands], rtol=1e-5)
    np.testing.assert_allclose(found[len(bands) :], [band.std() for band in bands], rtol=1e-3)
