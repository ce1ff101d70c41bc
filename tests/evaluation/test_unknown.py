from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from audioml.audio.recordings import list_recordings
from audioml.errors import ParamsError
from audioml.evaluation.unknown import judge_strangers
from audioml.inference.description import Description
from audioml.inference.predictor import Predictor, open_session


@pytest.fixture
def predictor(tone_model: tuple[Path, dict[str, Any]]) -> Predictor:
    network, description = tone_model
    shape = tuple(description["input_shape"])
    # It is surer than floats can tell without a temperature.
    return Predictor.of(
        Description(**{**description, "input_shape": shape, "temperature": 30.0}), open_session(network)
    )


@pytest.fixture
def files(tmp_path: Path, tone_wav: Callable[[float], bytes]) -> list[Path]:
    for frequency_hz in (300, 900, 3000):
        (tmp_path / f"{frequency_hz}.wav").write_bytes(tone_wav(frequency_hz))
    (tmp_path / "credits.csv").write_text("no audio")
    return list_recordings(tmp_path, "evaluate.unknown")


def test_confidence_tells_them_apart(predictor: Predictor, files: list[Path]) -> None:
    sure = np.array([answer["probability"] for answer in predictor.predict([path.read_bytes() for path in files])])
    known = [sure.max() + 0.1, float(np.median(sure))]
    found = judge_strangers(predictor, files, known)
    expected = np.mean([[1.0 if k > s else 0.5 if k == s else 0.0 for s in sure] for k in known])
    assert (found.n, found.rejected_share) == (3, None)
    assert found.auroc == pytest.approx(expected)
    assert found.auroc == pytest.approx(roc_auc_score([1, 1, 0, 0, 0], [*known, *sure]))


def test_the_share_that_is_rejected(predictor: Predictor, files: list[Path]) -> None:
    sure = sorted(answer["probability"] for answer in predictor.predict([path.read_bytes() for path in files]))
    targets = predictor.description.targets | {"unknown_below": (sure[0] + sure[1]) / 2}
    careful = replace(predictor, description=replace(predictor.description, targets=targets))
    assert judge_strangers(careful, files, [0.9]).rejected_share == pytest.approx(1 / 3)


def test_what_is_no_recording_is_named(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(
        ParamsError, match=r"'evaluate.unknown': there are no recordings in .*nowhere.*the path of a folder"
    ):
        list_recordings(tmp_path / "nowhere", "evaluate.unknown")
    (tmp_path / "a.wav").write_text("no audio")
    with pytest.raises(ParamsError, match=r"a\.wav cannot be read as audio"):
        judge_strangers(predictor, [tmp_path / "a.wav"], [0.9])
