from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from audioml.errors import RegistryError, SourceError
from audioml.pipeline.context import Context
from audioml.serving.batch import predict_files


def test_each_file_gets_a_prediction_or_a_reason(
    registered: Context, tmp_path: Path, tone_wav: Callable[[float], bytes]
) -> None:
    (tmp_path / "höch.bin").write_bytes(tone_wav(3000.0))
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    high, bad = predict_files(registered, [tmp_path / "höch.bin", tmp_path / "bad.wav"])
    assert (high["label"], high["model"]) == ("high", {"name": "tones", "version": 1})
    assert high["file"] == str(tmp_path / "höch.bin")
    assert bad["error"]["reason"] == "unreadable"
    assert "label" not in bad


def test_missing_file_is_named_before_anything_is_loaded(registered: Context, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"nowhere\.wav"):
        predict_files(registered, [tmp_path / "nowhere.wav"], "no such @ model @")


def test_unknown_alias(registered: Context, tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(b"x")
    with pytest.raises(RegistryError, match="Did you mean 'champion'"):
        predict_files(registered, [tmp_path / "clip.wav"], "@champio")
