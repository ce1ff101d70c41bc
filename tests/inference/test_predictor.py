from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import soundfile
import torch
from torch import nn

from audioml.audio.prepare import prepare_audio
from audioml.clean import remove_dc, trim
from audioml.clean._chain import describe_chain, load_chain
from audioml.errors import DecodeError, ParamsError, StoreError
from audioml.features import logmel
from audioml.inference.description import Description, read_description, write_description
from audioml.inference.predictor import Predictor
from audioml.models import rescnn
from audioml.tasks import classification, detection
from audioml.training.export import export_onnx
from audioml.training.network import Network

LABELS = ["a", "b", "c"]
MODEL = rescnn.Params(channels=[8, 8], width=8)
CLEAN = [("remove_dc", remove_dc.Params()), ("trim", trim.Params())]
FEATURES = logmel.Params(sample_rate=8000, duration_s=0.5, length="segment", n_fft=256, win_length=256, hop_length=160)


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    shape = logmel.feature_shape(FEATURES)
    model = rescnn.build(MODEL, shape)
    head = classification.build_head(classification.Params(), {"labels": LABELS}, model.width)
    nn.init.normal_(head[2].weight)  # type: ignore[arg-type]
    network = Network(model, head, shape[0])
    network.set_standardisation(np.full(shape[0], -50, np.float32), np.full(shape[0], 20, np.float32))
    return network.eval()


@pytest.fixture(scope="module")
def folder(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    shape = logmel.feature_shape(FEATURES)
    export_onnx(network, [torch.zeros(1, *shape)], folder / "model.onnx")
    description = Description(
        name="letters",
        clean=describe_chain(CLEAN),
        features={"name": "logmel", "params": FEATURES.model_dump(mode="json")},
        task={"name": "classification", "params": {"label_smoothing": 0.1}},
        model={"name": "rescnn", "params": MODEL.model_dump(mode="json")},
        targets={"labels": LABELS},
        input_shape=shape,
    )
    write_description(folder, description)
    assert read_description(folder) == description
    return folder


def make_wav(duration_s: float, seed: int, sample_rate: int = 8000) -> bytes:
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    soundfile.write(file, rng.normal(0, 0.1, int(duration_s * sample_rate)), sample_rate, format="WAV")
    return file.getvalue()


def predict_with_torch(network: Network, data: bytes) -> np.ndarray:
    audio, sample_rate = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)
    windows, _ = prepare_audio(audio.T, sample_rate, FEATURES, load_chain(CLEAN))
    with torch.no_grad():
        logits = network(torch.from_numpy(logmel.extract(FEATURES, windows))).numpy()
    return scipy.special.softmax(logits, axis=1).mean(axis=0)


def test_predictions_are_those_of_torch_clip_by_clip(network: Network, folder: Path) -> None:
    clips = [make_wav(0.3, 1), make_wav(2.2, 2), make_wav(0.5, 3), make_wav(40.0, 4)]
    predictor = Predictor.load(folder)
    outputs = predictor.predict_outputs(clips)
    expected = np.stack([predict_with_torch(network, clip) for clip in clips])
    np.testing.assert_allclose(outputs, expected, atol=1e-4)
    for found, probabilities in zip(predictor.predict(clips), expected, strict=True):
        assert found["label"] == LABELS[int(probabilities.argmax())]
        assert [found["probabilities"][label] for label in LABELS] == pytest.approx(probabilities.tolist(), abs=1e-4)


def test_a_batch_answers_as_its_clips_do_alone(folder: Path) -> None:
    predictor = Predictor.load(folder, threads=2)
    clips = [make_wav(0.2 + 0.4 * i, i) for i in range(5)]
    together = predictor.predict_outputs(clips)
    alone = np.concatenate([predictor.predict_outputs([clip]) for clip in clips])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_no_clips_no_predictions(folder: Path) -> None:
    assert Predictor.load(folder).predict([]) == []


def test_merge_clips_keeps_the_order_of_first_appearance(folder: Path) -> None:
    logits = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    clips, merged = Predictor.load(folder).merge_clips(logits, ["z", "a", "z", "m", "a"])
    assert clips.tolist() == ["z", "a", "m"]
    expected = [scipy.special.softmax(logits[rows], axis=1).mean(axis=0) for rows in ([0, 2], [1, 4], [3])]
    np.testing.assert_allclose(merged, expected, atol=1e-6)


def test_bad_clip_is_named_by_its_position(folder: Path) -> None:
    predictor = Predictor.load(folder)
    with pytest.raises(DecodeError, match="clip 1") as caught:
        predictor.predict([make_wav(0.5, 0), b"no audio at all"])
    assert caught.value.reason == "unreadable"
    with pytest.raises(DecodeError) as alone:
        predictor.predict([b""])
    assert alone.value.reason == "empty"
    assert "clip 0" not in str(alone.value)


def test_features_of_another_shape_are_refused(folder: Path) -> None:
    with pytest.raises(StoreError, match=r"\(n, 40, 26\).*\(2, 3, 4\)"):
        Predictor.load(folder).run_features(np.zeros((2, 3, 4), np.float32))


def test_missing_and_damaged_files_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"model\.json is missing"):
        Predictor.load(tmp_path)
    (tmp_path / "model.json").write_text("{}")
    with pytest.raises(StoreError, match=r"model\.json is not a description"):
        Predictor.load(tmp_path)
    (tmp_path / "model.json").write_text((folder / "model.json").read_text())
    with pytest.raises(StoreError, match=r"model\.onnx is missing"):
        Predictor.load(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"not onnx")
    with pytest.raises(StoreError, match=r"model\.onnx is no ONNX model"):
        Predictor.load(tmp_path)


def test_unknown_plugin_in_the_description_is_named(folder: Path, tmp_path: Path) -> None:
    text = (folder / "model.json").read_text().replace('"logmel"', '"logmell"')
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(ParamsError, match="logmell"):
        Predictor.load(tmp_path)


def test_unknown_cleaning_in_the_description_is_named(folder: Path, tmp_path: Path) -> None:
    text = (folder / "model.json").read_text()
    (tmp_path / "model.json").write_text(text.replace('"trim"', '"trimm"'))
    with pytest.raises(ParamsError, match="Did you mean 'trim'"):
        Predictor.load(tmp_path)
    (tmp_path / "model.json").write_text(text.replace('"keep_s"', '"keep"'))
    with pytest.raises(ParamsError, match=r"'clean\.1\.keep'\. Did you mean 'keep_s'"):
        Predictor.load(tmp_path)


def test_inference_imports_no_torch(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "clip.wav").write_bytes(make_wav(0.5, 0))
    code = (
        "import sys; from pathlib import Path; from audioml.inference.predictor import Predictor;"
        f"Predictor.load(Path({str(folder)!r})).predict([Path({str(tmp_path / 'clip.wav')!r}).read_bytes()]);"
        "sys.exit(', '.join({'torch', 'pandas', 'sklearn', 'matplotlib', 'librosa', 'mlflow'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_clips_of_a_task_along_time_have_outputs_of_their_own_lengths(tmp_path: Path) -> None:
    """Three clips of other lengths; in windows that overlap, and as one window each."""
    decoding = detection.Params(step_s=0.05).model_dump(mode="json")
    targets = {"labels": ["a", "b"], "thresholds": [0.5, 0.5], "params": decoding}
    clips = [make_wav(duration_s, i) for i, duration_s in enumerate((0.4, 1.2, 2.0))]
    for length in ("segment", "whole"):
        params = FEATURES.model_copy(update={"length": length})
        shape = (params.n_mels, None if length == "whole" else logmel.feature_shape(params)[1])
        head = detection.build_head(detection.Params(), targets, 8)
        network = Network(nn.Conv1d(params.n_mels, 8, 3, stride=2, padding=1), head, params.n_mels).eval()
        folder = tmp_path / length
        folder.mkdir()
        export_onnx(network, [torch.zeros(1, params.n_mels, 26)], folder / "model.onnx", any_frames=length == "whole")
        features = {"name": "logmel", "params": params.model_dump(mode="json")}
        none = {"name": "none", "params": {}}
        task = {"name": "detection", "params": decoding}
        write_description(folder, Description("d", [], features, task, none, targets, shape))
        predictor = Predictor.load(folder)
        outputs = predictor.predict_outputs(clips)
        # A track is as long as its clip, or to the end of the clip's last frame.
        assert [output.shape for output in outputs] == [(2, 9), (2, 25), (2, 41)]
        for clip, output in zip(clips, outputs, strict=True):
            np.testing.assert_allclose(predictor.predict_outputs([clip])[0], output, atol=1e-6)
        assert [set(answer) for answer in predictor.predict(clips)] == [{"events"}] * 3


@pytest.mark.parametrize("sample_rate", [8000, 16000])
def test_audio_in_memory_answers_as_its_file(folder: Path, sample_rate: int) -> None:
    predictor = Predictor.load(folder)
    clip = make_wav(1.3, 0, sample_rate)
    samples, _ = soundfile.read(io.BytesIO(clip), dtype="float32", always_2d=True)
    assert predictor.predict_audio(samples.T, sample_rate) == predictor.predict([clip])[0]
    with pytest.raises(DecodeError, match="no sample"):
        predictor.predict_audio(samples.T[:, :0], sample_rate)
    with pytest.raises(DecodeError, match="1 Hz"):
        predictor.predict_audio(samples.T, 1)
