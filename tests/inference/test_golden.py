from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audioml.errors import DecodeError, StoreError
from audioml.inference.golden import GOLDEN, check_golden, write_golden
from audioml.tasks._outputs import stack

CLIPS = [("a" * 64, b"one"), ("b" * 64, b"three"), ("c" * 64, b"seven")]
TOLERANCE = 1e-3
SHAPES: dict[str, tuple[int, ...]] = {"probabilities": (3,), "embedding": (40,), "steps": (2, 7)}


class Predictor:
    """Answers a clip by numbers that follow from its bytes, times a gain."""

    def __init__(self, shape: tuple[int, ...] | None, scale: float = 1.0, off: float = 0.0) -> None:
        self.shape, self.scale, self.off = shape, scale, off

    def predict_outputs(self, clips: Sequence[bytes]) -> np.ndarray:
        outputs = []
        for data in clips:
            # As of log-probabilities along time: a clip's output is as long as the clip.
            output = np.random.default_rng(list(data)).normal(size=self.shape or (4, len(data))).astype(np.float32)
            output *= np.float32(self.scale / np.abs(output).max())
            output.flat[-1] += np.float32(self.off)
            outputs.append(output)
        return stack(outputs)


@pytest.mark.parametrize("shape", [*SHAPES.values(), None], ids=[*SHAPES, "along time"])
def test_an_equal_predictor_passes_and_one_that_is_off_is_named(tmp_path: Path, shape: tuple[int, ...] | None) -> None:
    write_golden(tmp_path / GOLDEN, Predictor(shape), CLIPS, TOLERANCE)
    assert check_golden(Predictor(shape), tmp_path) == 3
    assert check_golden(Predictor(shape, off=0.9 * TOLERANCE), tmp_path) == 3
    with pytest.raises(StoreError, match=r"golden clip aaaaaaaaaaaa gives .* was expected, within 0\.001"):
        check_golden(Predictor(shape, off=1.1 * TOLERANCE), tmp_path)


def test_large_outputs_may_differ_by_as_much_more(tmp_path: Path) -> None:
    write_golden(tmp_path / GOLDEN, Predictor((3,), scale=100), CLIPS, TOLERANCE)
    assert check_golden(Predictor((3,), scale=100, off=90 * TOLERANCE), tmp_path) == 3
    with pytest.raises(StoreError, match=r"within 0\.1\b"):
        check_golden(Predictor((3,), scale=100, off=110 * TOLERANCE), tmp_path)


@pytest.mark.parametrize("off", [np.nan, np.inf])
def test_what_is_no_number_is_refused(tmp_path: Path, off: float) -> None:
    write_golden(tmp_path / GOLDEN, Predictor((3,)), CLIPS, TOLERANCE)
    with pytest.raises(StoreError, match="golden clip"):
        check_golden(Predictor((3,), off=off), tmp_path)


def test_another_shape_is_refused(tmp_path: Path) -> None:
    write_golden(tmp_path / GOLDEN, Predictor((3,)), CLIPS, TOLERANCE)
    with pytest.raises(StoreError, match=r"shape \(4,\), but \(3,\) was expected"):
        check_golden(Predictor((4,)), tmp_path)


def test_a_clip_that_cannot_be_read_any_more_is_named(tmp_path: Path) -> None:
    class Deaf(Predictor):
        def predict_outputs(self, clips: Sequence[bytes]) -> Any:
            raise DecodeError("unreadable", "no MP3 here")

    write_golden(tmp_path / GOLDEN, Predictor((3,)), CLIPS, TOLERANCE)
    with pytest.raises(StoreError, match=r"aaaaaaaaaaaa cannot be read.*no MP3 here"):
        check_golden(Deaf((3,)), tmp_path)


def test_packages_of_before_have_none(tmp_path: Path) -> None:
    assert check_golden(Predictor((3,)), tmp_path) == 0


def test_equal_clips_make_equal_files_and_damaged_ones_are_named(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_golden(tmp_path / name / GOLDEN, Predictor(None), CLIPS, TOLERANCE)
    data = (tmp_path / "one" / GOLDEN).read_bytes()
    assert data == (tmp_path / "other" / GOLDEN).read_bytes()
    (tmp_path / "one" / GOLDEN).write_bytes(data[: len(data) // 2])
    with pytest.raises(StoreError, match=r"golden\.parquet is no table of golden clips"):
        check_golden(Predictor(None), tmp_path / "one")
