from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from audioml.errors import DecodeError, ParamsError, StoreError
from audioml.features import logmel
from audioml.inference import streaming
from audioml.inference.description import MODEL, STREAM, Description, write_description
from audioml.inference.predictor import Predictor
from audioml.inference.streaming import Stream, StreamingPredictor, why_no_stream
from audioml.plugins import load_plugin, stream_block
from audioml.tasks import ctc
from audioml.training.export import export_onnx
from audioml.training.network import Network
from audioml.training.stream_export import export_stream

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "gru": ("gru", {"bidirectional": False, "layers": 1}),
    "lstm": ("lstm", {"bidirectional": False, "layers": 1}),
    "crnn": ("crnn", {"bidirectional": False, "causal": True, "channels": (8, 8)}),
    "conformer": ("conformer", {"chunk_frames": 4, "left_chunks": 2, "layers": 1}),
}
FEATURES = logmel.Params(length="whole")
RATE = FEATURES.sample_rate
TEXTS = ["no one", "one two", "two", "no"]
EXACT = 1e-4
"""Absolute, of log-probabilities between 0 and -20."""
SURE = 1e-3
"""Absolute, of confidences, which are rounded to 1e-4."""
PATTERNS: dict[str, tuple[int, ...]] = {
    "a telephone's packets": (320,),
    "odd": (1, 7, 1001, 0, 4093),
    "seconds": (16000,),
    "at once": (10**9,),
}
"""Samples a push, over and over."""


def make_targets(decoder: bool) -> dict[str, Any]:
    targets = ctc.fit_targets(ctc.Params(), pd.DataFrame({"clip_id": list("abcd"), "label": TEXTS}))
    return targets | ({"decoder": {"beam": 8, "weight": 0.5, "bonus": 0.0}} if decoder else {})


def describe(case: str, decoder: bool = False) -> Description:
    name, params = MODELS[case]
    plugin = load_plugin("models", name)
    return Description(
        name="words",
        clean=[],
        features={"name": "logmel", "params": FEATURES.model_dump(mode="json")},
        task={"name": "ctc", "params": ctc.Params().model_dump(mode="json")},
        model={"name": name, "params": plugin.Params(**params).model_dump(mode="json")},
        targets=make_targets(decoder),
        input_shape=(FEATURES.n_mels, None),
        stream_block=stream_block(name, plugin.Params(**params)),
    )


def make_network(case: str) -> Network:
    """A network that nobody trained, but of whose units now this one, now that one is the most probable."""
    name, params = MODELS[case]
    plugin = load_plugin("models", name)
    torch.manual_seed(1)
    model = plugin.build(plugin.Params(**params), (FEATURES.n_mels, None))
    head = ctc.build_head(ctc.Params(), make_targets(False), model.width)
    network = Network(model, head, FEATURES.n_mels).eval()
    network.set_standardisation(np.full(FEATURES.n_mels, -50, np.float32), np.full(FEATURES.n_mels, 20, np.float32))
    with torch.no_grad():
        outputs = network(torch.from_numpy(logmel.extract(FEATURES, make_sound(60000)[np.newaxis])))
        mean, deviation = outputs.mean(dim=(0, 2)), outputs.std(dim=(0, 2))
        head.weight.mul_(4 / deviation[:, None, None])  # type: ignore[operator]
        head.bias.sub_(mean).mul_(4 / deviation)  # type: ignore[operator, union-attr]
    return network


@pytest.fixture(scope="module")
def folders() -> dict[str, Path]:
    """Where `load` has put what it has loaded, by the name of the case."""
    return {}


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Path]) -> Callable[..., StreamingPredictor]:
    """A function that loads a model as it is served; without a decoder the most probable units are the answer."""

    def export(case: str) -> Path:
        if case in folders:
            return folders[case]
        folder = folders[case] = tmp_path_factory.mktemp("model")
        network, examples = make_network(case), [20 * torch.randn(1, FEATURES.n_mels, 70) - 50]
        export_onnx(network, examples, folder / MODEL, any_frames=True)
        block = describe(case).stream_block
        assert block
        export_stream(network, examples, folder / STREAM, block)
        return folder

    def load_case(case: str, decoder: bool = False) -> StreamingPredictor:
        write_description(export(case), describe(case, decoder))
        return StreamingPredictor.load(Predictor.load(export(case)), export(case))

    return load_case


def make_sound(n_samples: int, seed: int = 0) -> np.ndarray:
    """Tones that come and go, in noise."""
    generator, at = np.random.default_rng(seed), np.arange(n_samples)
    pitches_hz = np.repeat(generator.uniform(100, 4000, n_samples // 2000 + 1), 2000)[:n_samples]
    loud = np.repeat(generator.uniform(0, 0.5, n_samples // 900 + 1), 900)[:n_samples]
    return (loud * np.sin(2 * np.pi * pitches_hz * at / RATE) + generator.normal(0, 0.01, n_samples)).astype(np.float32)


def as_wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()


def push_all(stream: Stream, samples: np.ndarray, sizes: tuple[int, ...]) -> Iterator[dict[str, Any] | None]:
    start, turn = 0, 0
    while start < len(samples):
        size = sizes[turn % len(sizes)]
        yield stream.push(samples[start : start + size])
        start, turn = start + size, turn + 1


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Text, words and times are equal; confidences are within `SURE`."""
    assert found["text"] == expected["text"]
    assert found["confidence"] == pytest.approx(expected["confidence"], abs=SURE)
    for word, other in zip(found["words"], expected["words"], strict=True):
        assert word == {**other, "confidence": pytest.approx(other["confidence"], abs=SURE)}


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
