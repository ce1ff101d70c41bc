"""Noise against its definition: the powers of what is added and of what it is added to."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audioml.audio.decode import decode
from audioml.audio.encode import encode_wav
from audioml.errors import ParamsError
from audioml.evaluation.robustness import load_noise, predict_in_noise


class Listener:
    """Stands for a predictor: keeps what it is given, and answers with its RMS."""

    def __init__(self) -> None:
        self.heard: list[tuple[np.ndarray, int]] = []

    def predict_outputs(self, clips: list[bytes]) -> np.ndarray:
        self.heard += [decode(data) for data in clips]
        return np.array([[np.sqrt(np.mean(audio**2))] for audio, _ in self.heard[-len(clips) :]], np.float32)


def make_clip(channels: int = 1, loudness: float = 0.3, format_: str = "WAV", seed: int = 0) -> bytes:
    buffer = io.BytesIO()
    audio = loudness * np.random.default_rng(seed).uniform(-1, 1, (4000, channels))
    soundfile.write(buffer, audio, 8000, format=format_)
    return buffer.getvalue()


@pytest.mark.parametrize("colour", ["white", "pink"])
@pytest.mark.parametrize("snr_db", [20.0, -6.0])
def test_the_ratio_of_the_powers_is_the_one_asked_for(colour: str, snr_db: float) -> None:
    listener, data = Listener(), make_clip(channels=2, loudness=0.9)
    (outputs,) = predict_in_noise(listener, [("a", data)], [snr_db], load_noise(colour, Path()), seed=0)
    ((noisy, rate),) = listener.heard
    clean, _ = decode(data)
    assert (noisy.shape, rate, outputs.shape) == (clean.shape, 8000, (1, 1))
    noise = noisy - clean
    # More than full scale is not clipped.
    assert 10 * np.log10(np.mean(clean**2) / np.mean(noise**2)) == pytest.approx(snr_db, abs=0.01)
    np.testing.assert_allclose(noise[0], noise[1], atol=1e-6)


def test_only_the_ratio_differs_along_the_curve() -> None:
    listener, clips = Listener(), [("a", make_clip()), ("b", make_clip(format_="FLAC"))]
    outputs = predict_in_noise(listener, clips, [10.0, 0.0], load_noise("pink", Path()), seed=0)
    assert [len(of_ratio) for of_ratio in outputs] == [2, 2]
    clean, _ = decode(clips[0][1])
    quiet, loud, other, _ = (audio for audio, _ in listener.heard)
    np.testing.assert_allclose((loud - clean), (quiet - clean) * np.sqrt(10), atol=1e-5)
    assert not np.allclose(other, quiet, atol=1e-3)
    again, reversed_ = Listener(), Listener()
    predict_in_noise(again, clips, [10.0], load_noise("pink", Path()), seed=0)
    predict_in_noise(reversed_, clips[::-1], [10.0], load_noise("pink", Path()), seed=0)
    np.testing.assert_array_equal(again.heard[0][0], quiet)
    np.testing.assert_array_equal(reversed_.heard[1][0], quiet)


def test_outputs_may_differ_in_shape() -> None:
    class Along(Listener):
        def predict_outputs(self, clips: list[bytes]) -> np.ndarray:
            return np.stack([decode(data)[0][:, ::1000] for data in clips])

    short = encode_wav(np.full((1, 2000), 0.1, np.float32), 8000)
    (outputs,) = predict_in_noise(Along(), [("a", make_clip()), ("b", short)], [0.0], load_noise("white", Path()), 0)
    assert [output.shape for output in outputs] == [(1, 4), (1, 2)]


def test_silence_stays_silent() -> None:
    listener = Listener()
    predict_in_noise(listener, [("a", make_clip(loudness=0))], [0.0], load_noise("white", Path()), seed=0)
    assert not listener.heard[0][0].any()


def test_noise_from_a_folder_is_cut_and_repeated(tmp_path: Path) -> None:
    time_s = np.arange(800) / 16000
    (tmp_path / "noises").mkdir()
    soundfile.write(tmp_path / "noises" / "hum.wav", 0.1 * np.sin(2 * np.pi * 500 * time_s), 16000)
    make = load_noise("noises", tmp_path)
    noise = make(8000, 8000, np.random.default_rng(0))
    assert len(noise) == 8000
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(1, abs=1e-3)
    assert np.abs(np.fft.rfft(noise)).argmax() == 500


def test_what_is_no_noise_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"'evaluate.noise': there are no recordings in .*purple.*white, pink, brown"):
        load_noise("purple", tmp_path)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.wav").write_text("no audio")
    with pytest.raises(ParamsError, match=r"a\.wav cannot be read"):
        load_noise("texts", tmp_path)(10, 8000, np.random.default_rng(0))
