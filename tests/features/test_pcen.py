from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
import scipy.signal
import torch

from audioml.audio.decode import decode
from audioml.audio.prepare import prepare_audio
from audioml.errors import ParamsError
from audioml.features import pcen
from audioml.params import parse_section

SETTINGS = [
    {},
    {"sample_rate": 8000, "n_fft": 256, "win_length": 200, "hop_length": 80, "n_mels": 23, "time_constant_s": 0.06},
    {"n_mels": 64, "hop_length": 320, "gain": 0.8, "bias": 10.0, "power": 0.25},
]


def librosa_pcen(params: pcen.Params, audio: np.ndarray) -> np.ndarray:
    """Return librosa's values in double precision, smoothed from the first frame on."""
    same = ("n_fft", "win_length", "hop_length", "n_mels", "fmin", "fmax")
    keys = {"sr": params.sample_rate, "pad_mode": "constant", **{key: getattr(params, key) for key in same}}
    mel = np.maximum(librosa.feature.melspectrogram(y=audio.astype(np.float64), **keys), 1e-10) * 2.0**30
    share = pcen.smoothing(params)
    return librosa.pcen(
        mel,
        sr=params.sample_rate,
        hop_length=params.hop_length,
        gain=params.gain,
        bias=params.bias,
        power=params.power,
        time_constant=params.time_constant_s,
        eps=1e-6,
        zi=scipy.signal.lfilter_zi([share], [1, share - 1]) * mel[:, :1],
    )


@pytest.mark.parametrize("keys", SETTINGS)
def test_spoken_digits_agree_with_librosa(fsdd_dir: Path, keys: dict[str, float]) -> None:
    params = pcen.Params(**keys)
    for path in sorted(fsdd_dir.glob("*.wav"))[::300]:
        audio = prepare_audio(*decode(path.read_bytes()), params, ())[0][0]
        ours = pcen.extract(params, audio[None])[0]
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, librosa_pcen(params, audio), rtol=1e-3, atol=1e-3)


def make_audio(n: int = 3, n_samples: int = 16000) -> np.ndarray:
    generator = np.random.default_rng(4)
    level = 0.02 + 0.3 * (generator.random((n, n_samples // 400)) > 0.7).repeat(400, axis=1)
    return (level * generator.standard_normal((n, n_samples))).astype(np.float32)


def test_level_hardly_counts_and_changes_do() -> None:
    params, audio = pcen.Params(), make_audio()
    ours = pcen.extract(params, audio)
    assert np.abs(pcen.extract(params, 0.1 * audio) - ours).max() < 0.1 * ours.max()
    assert np.ptp(ours, axis=2).min() > 0.2


def test_what_comes_later_changes_nothing_before() -> None:
    params, audio = pcen.Params(), make_audio(1)
    cut = audio.copy()
    cut[:, 8000:] = 0
    frames = (8000 - params.win_length // 2) // params.hop_length
    before, after = (pcen.extract(params, sound)[0] for sound in (audio, cut))
    np.testing.assert_array_equal(before[:, :frames], after[:, :frames])
    assert (before[:, frames + 3 :] != after[:, frames + 3 :]).any()


@pytest.mark.parametrize("keys", SETTINGS)
def test_torch_gives_the_same(keys: dict[str, float]) -> None:
    params, audio = pcen.Params(**keys), make_audio()
    ours = pcen.extract_torch(params, torch.from_numpy(audio))
    assert ours.shape == (3, *pcen.shape_of(params, 16000))
    np.testing.assert_allclose(ours.numpy(), pcen.extract(params, audio), rtol=1e-3, atol=1e-3)


def test_silence_and_wrong_keys() -> None:
    assert not pcen.extract(pcen.Params(), np.zeros((1, 4000), np.float32)).std()
    for keys in ({"top_db": 80}, {"subtract_mean": True}, {"power": 0}):
        with pytest.raises(ParamsError, match=next(iter(keys))):
            parse_section(pcen.Params, keys, "features")
