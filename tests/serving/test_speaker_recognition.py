from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audioml.errors import ParamsError, RegistryError, StoreError
from audioml.serving.speaker_enrolment import enrol
from audioml.serving.speaker_recognition import identify, verify

from ._fake_embedder import make_embedder, write_clips

MODEL = make_embedder()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Ann speaks at 0 to 20 degrees, Bob at 90."""
    enrol(tmp_path, MODEL, "ann", write_clips(tmp_path, 0, 10, 20))
    enrol(tmp_path, MODEL, "bob", write_clips(tmp_path, 90))
    return tmp_path


def cos(*degrees: float) -> float:
    return float(np.cos(np.deg2rad(degrees)).mean())


def test_the_nearest_speaker_is_named_or_unknown(state: Path) -> None:
    files = write_clips(state, 5, 100, 45)
    bad = state / "bad.wav"
    bad.write_text("noise")
    ann, bob, neither, unreadable = identify(state, MODEL, [*files, bad], k=2)
    assert (ann["speaker"], ann["similarity"]) == ("ann", pytest.approx(cos(5, 5)))
    assert (bob["speaker"], bob["similarity"]) == ("bob", pytest.approx(cos(10)))
    assert (neither["speaker"], neither["nearest"]) == ("unknown", "ann")
    assert neither["similarity"] == pytest.approx(cos(25, 35))
    assert neither["threshold"] == 0.9
    model = {"name": "voices", "version": 1}
    error = {"reason": "unreadable", "detail": "not a number"}
    assert unreadable == {"file": str(bad), "model": model, "error": error}
    (asked,) = identify(state, MODEL, files[2:], k=1, threshold=0.5)
    assert (asked["speaker"], asked["similarity"]) == ("ann", pytest.approx(cos(25)))


def test_a_speaker_is_verified_by_the_mean(state: Path) -> None:
    yes, no = verify(state, MODEL, "ann", write_clips(state, 34, 37))
    assert (yes["accepted"], yes["similarity"]) == (True, pytest.approx(cos(24)))
    assert (no["accepted"], no["similarity"]) == (False, pytest.approx(cos(27)))
    assert verify(state, MODEL, "ann", write_clips(state, 37), threshold=0.8)[0]["accepted"]
    with pytest.raises(ParamsError, match=r"'bop' is enrolled\. Did you mean 'bob'"):
        verify(state, MODEL, "bop", write_clips(state, 0))


def test_what_cannot_be_compared_is_refused(state: Path, tmp_path: Path) -> None:
    files = write_clips(tmp_path, 0)
    with pytest.raises(RegistryError, match=r"voices version 1 .* voices version 2"):
        identify(state, make_embedder(2), files)
    with pytest.raises(RegistryError, match=r"has no threshold .*--threshold"):
        verify(state, make_embedder(accept_above=None), "ann", files)
    assert verify(state, make_embedder(accept_above=None), "ann", files, threshold=0.1)[0]["accepted"]
    with pytest.raises(StoreError, match=r"No speaker is enrolled\. .*audioml speakers enrol"):
        identify(tmp_path / "other", MODEL, files)
