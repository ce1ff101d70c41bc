from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audioml.errors import DecodeError, ParamsError, StoreError
from audioml.inference import streaming
from audioml.inference.description import Description, write_description
from audioml.inference.predictor import Predictor
from audioml.inference.streaming import Stream, StreamingPredictor, why_no_stream

from .._streaming_models import MODELS, RATE, as_wav, assert_same, describe, export, make_sound

EXACT = 1e-4
"""Absolute, of log-probabilities between 0 and -20."""
PATTERNS: dict[str, tuple[int, ...]] = {
    "a telephone's packets": (320,),
    "odd": (1, 7, 1001, 0, 4093),
    "seconds": (16000,),
    "at once": (10**9,),
}
"""Samples a push, over and over."""


@pytest.fixture(scope="module")
def folders() -> dict[str, Path]:
    """Where `load` has put what it has loaded, by the name of the case."""
    return {}


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Path]) -> Callable[..., StreamingPredictor]:
    """A function that loads a model as it is served; without a decoder the most probable units are the answer."""

    def find(case: str) -> Path:
        if case in folders:
            return folders[case]
        folder = folders[case] = tmp_path_factory.mktemp("model")
        export(case, folder)
        return folder

    def load_case(case: str, decoder: bool = False) -> StreamingPredictor:
        write_description(find(case), describe(case, decoder))
        return StreamingPredictor.load(Predictor.load(find(case)), find(case))

    return load_case


def push_all(stream: Stream, samples: np.ndarray, sizes: tuple[int, ...]) -> Iterator[dict[str, Any] | None]:
    start, turn = 0, 0
    while start < len(samples):
        size = sizes[turn % len(sizes)]
        yield stream.push(samples[start : start + size])
        start, turn = start + size, turn + 1


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_last_answer_is_that_of_the_whole_clip(
    load: Callable[..., StreamingPredictor], case: str, pattern: str
) -> None:
    model = load(case)
    for n_samples in (1, 500, 24000, 51111):
        samples = make_sound(n_samples)
        stream = model.open()
        list(push_all(stream, samples, PATTERNS[pattern]))
        answer = stream.finish()
        assert_same(answer, model.predictor.predict([as_wav(samples)])[0])
        np.testing.assert_allclose(stream.output(), model.predictor.predict_outputs([as_wav(samples)])[0], atol=EXACT)
    assert len(set(answer["text"])) > 3


@pytest.mark.parametrize("case", MODELS)
def test_words_of_the_language_model_are_those_of_the_whole_clip(
    load: Callable[..., StreamingPredictor], case: str
) -> None:
    model, samples = load(case, decoder=True), make_sound(40000, seed=3)
    stream = model.open()
    list(push_all(stream, samples, PATTERNS["odd"]))
    answer = stream.finish()
    assert_same(answer, model.predictor.predict([as_wav(samples)])[0])
    assert set(answer["text"].split()) <= {"no", "one", "two"}


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
def test_audio_of_other_rates_is_resampled(load: Callable[..., StreamingPredictor], rate: int) -> None:
    model, samples = load("crnn"), make_sound(60000, seed=4)
    stream = model.open(rate)
    list(push_all(stream, samples, PATTERNS["odd"]))
    assert_same(stream.finish(), model.predictor.predict([as_wav(samples, rate)])[0])


def test_real_recordings(load: Callable[..., StreamingPredictor], fsdd_dir: Path) -> None:
    model = load("conformer")
    paths = sorted(fsdd_dir.glob("*.wav"))[::300]
    samples = np.concatenate([soundfile.read(path, dtype="float32")[0] for path in paths])
    stream = model.open(8000)
    list(push_all(stream, samples, (160,)))
    assert_same(stream.finish(), model.predictor.predict([as_wav(samples, 8000)])[0])


@pytest.mark.parametrize("case", MODELS)
def test_answers_come_while_the_clip_is_heard(load: Callable[..., StreamingPredictor], case: str) -> None:
    """A part of the text is there after a part of the audio, and what is there stays."""
    model = load(case)
    stream, samples = model.open(), make_sound(4 * RATE)
    answers = [answer for answer in push_all(stream, samples, (800,)) if answer is not None]
    whole = model.predictor.predict([as_wav(samples)])[0]["text"]
    assert len(answers) > 10
    assert [len(answer["text"]) for answer in answers] == sorted(len(answer["text"]) for answer in answers)
    halfway = answers[len(answers) // 2]["text"]
    assert len(halfway) > 0.3 * len(whole)
    # A repeated separator at the end is dropped until something follows it.
    assert all(whole.startswith(answer["text"]) for answer in answers)


@pytest.mark.parametrize("case", MODELS)
def test_the_look_ahead_is_what_it_says(load: Callable[..., StreamingPredictor], case: str) -> None:
    """An output for each block of frames is there as soon as that much was heard behind its first frame."""
    model = load(case)
    look_ahead_s = {"gru": 0.02, "lstm": 0.02, "crnn": 0.03, "conformer": 0.17}[case]
    assert model.look_ahead_s == pytest.approx(look_ahead_s)
    stream = model.open()
    n_samples = round(look_ahead_s * RATE)
    assert stream.push(make_sound(n_samples - 1)) is None
    assert stream.push(make_sound(1)) is not None


def test_streams_do_not_disturb_each_other(load: Callable[..., StreamingPredictor]) -> None:
    model = load("crnn")
    sounds = [make_sound(30000, seed) for seed in (5, 6)]
    streams = [model.open() for _ in sounds]
    for start in range(0, 30000, 777):
        for stream, samples in zip(streams, sounds, strict=True):
            stream.push(samples[start : start + 777])
    for stream, samples in zip(streams, sounds, strict=True):
        assert_same(stream.finish(), model.predictor.predict([as_wav(samples)])[0])


def test_long_stretches_go_through_the_network_in_turn(
    load: Callable[..., StreamingPredictor], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, samples = load("conformer"), make_sound(50000)
    monkeypatch.setattr(streaming, "RUN_FRAMES", 40)
    stream = model.open()
    stream.push(samples)
    assert_same(stream.finish(), model.predictor.predict([as_wav(samples)])[0])


def test_bad_samples_are_named(load: Callable[..., StreamingPredictor]) -> None:
    model = load("gru")
    with pytest.raises(ValueError, match=r"must be mono, .* shape \(2, 100\)"):
        model.open().push(np.zeros((2, 100), np.float32))
    with pytest.raises(DecodeError, match="not_finite"):
        model.open().push([0.0, np.nan])
    with pytest.raises(DecodeError, match="empty"):
        model.open().finish()
    with pytest.raises(DecodeError, match="0 Hz"):
        model.open(0)


def test_nothing_follows_the_end(load: Callable[..., StreamingPredictor]) -> None:
    stream = load("gru").open()
    stream.push(make_sound(800))
    stream.finish()
    for again in (lambda: stream.push([0.0]), stream.finish):
        with pytest.raises(ValueError, match="the stream has ended"):
            again()


def test_a_model_that_streams_is_told() -> None:
    assert all(why_no_stream(describe(case)) is None for case in MODELS)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"task": {"name": "classification", "params": {}}}, "classification answers clips as a whole"),
        ({"variant": "int8"}, r"The variant int8 serves.*export\.serve to float32"),
        ({"stream_block": None}, r"crnn needs the whole clip.*causal: true"),
        ({"clean": [{"name": "trim", "params": {}}]}, r"\(trim\) changes clips as a whole"),
        ({"features": {"length": "pad"}}, "'features.length' is pad.*Set it to whole"),
        ({"features": {"subtract_mean": True}}, "By 'features.subtract_mean' features depend on the whole clip"),
        ({"features": {"top_db": 80.0, "subtract_mean": True}}, "'features.top_db' and 'features.subtract_mean'"),
    ],
)
def test_what_needs_the_whole_clip_is_named(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    description = describe("crnn")
    if "features" in changes:
        changes = {"features": {"name": "logmel", "params": description.features["params"] | changes["features"]}}
    described = replace(description, **changes)
    with pytest.raises(ParamsError, match=f"words cannot answer streams.*{reason}"):
        StreamingPredictor.load(Predictor.of(described, None), tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"stream\.onnx is missing"):
        StreamingPredictor.load(Predictor.of(describe("gru"), None), tmp_path)


def test_descriptions_of_before_need_whole_clips(tmp_path: Path) -> None:
    value = describe("gru").as_dict()
    del value["stream_block"]
    assert "needs the whole clip" in str(why_no_stream(Description(**value)))


def test_only_what_serving_has_is_imported(load: Callable[..., StreamingPredictor], folders: dict[str, Path]) -> None:
    load("conformer", decoder=True)
    code = f"""
import sys
from pathlib import Path
import numpy as np
from audioml.inference.predictor import Predictor
from audioml.inference.streaming import StreamingPredictor
folder = Path({str(folders["conformer"])!r})
stream = StreamingPredictor.load(Predictor.load(folder), folder).open(48000)
stream.push(np.ones(48000, np.float32))
stream.finish()
sys.exit(", ".join({{"torch", "pandas", "sklearn", "matplotlib", "librosa", "mlflow"}} & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
