from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from audioml.errors import DatasetError, ParamsError
from audioml.orchestration.presets import PRESETS, apply_changes
from audioml.orchestration.workspace import Choices, create_workspace
from audioml.params import Params, load_params

PATTERN = r"(?P<label>[a-z]+)_(?P<speaker>\d+)"


@pytest.fixture
def voices(tmp_path: Path, tone_wav: Callable[[float], bytes]) -> Path:
    """A folder of clips of 2 labels by 4 speakers."""
    folder = tmp_path / "voices"
    folder.mkdir()
    for label in ("calm", "angry"):
        for speaker in range(4):
            (folder / f"{label}_{speaker}.wav").write_bytes(tone_wav(440.0))
    return folder


def make(folder: Path, **choices: object) -> Params:
    return load_params(create_workspace(folder, Choices(**choices)).folder)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_valid_for_recordings(tmp_path: Path, voices: Path, name: str) -> None:
    params = make(tmp_path / name, source=str(voices), layout="filename", pattern=PATTERN, preset=name)
    params.load_all_sections()
    assert params.data.layout == "filename"
    assert params.task.name == {"speech": "ctc", "speakers": "speaker"}.get(name, "classification")


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.layout])
def test_a_preset_with_a_corpus_of_its_own_needs_no_data(tmp_path: Path, name: str) -> None:
    params = make(tmp_path / name, preset=name)
    params.load_all_sections()
    assert params.data.layout == PRESETS[name].layout
    assert params.split.group in ("voice", "speaker")


def test_emotion_keeps_speakers_apart_in_splits_and_folds(tmp_path: Path, voices: Path) -> None:
    given = {"source": str(voices), "layout": "filename", "preset": "emotion"}
    params = make(tmp_path / "a", pattern=PATTERN, **given)
    assert (params.split.group, params.split.folds, params.plugin_section("tasks").metric) == ("speaker",) * 2 + (
        "uar",
    )
    other = make(tmp_path / "b", pattern=PATTERN.replace("speaker", "actor"), group="actor", **given)
    assert (other.split.group, other.split.folds) == ("actor", "actor")
    with pytest.raises(DatasetError, match="--group speaker: no recording has such a column"):
        make(tmp_path / "c", pattern=PATTERN.replace("speaker", "actor"), **given)
    assert not (tmp_path / "c").exists()


def test_an_unknown_preset_is_named(tmp_path: Path, voices: Path) -> None:
    with pytest.raises(ParamsError, match=r"--preset 'speach'.*Did you mean 'speech'.*Presets: digits, "):
        make(tmp_path / "a", source=str(voices), preset="speach")


def test_changes_replace_values_and_whole_sections() -> None:
    raw = {"a": {"b": 1, "c": {"d": 2}}, "e": [1]}
    assert apply_changes(raw, {"a.c": {"x": 0}, "a.b": 3, "f.g": 4}) == {
        "a": {"b": 3, "c": {"x": 0}},
        "e": [1],
        "f": {"g": 4},
    }
    assert raw == {"a": {"b": 1, "c": {"d": 2}}, "e": [1]}
