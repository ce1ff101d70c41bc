from __future__ import annotations

from pathlib import Path

import pytest
import torch

from audioml.audio.encode import encode_wav
from audioml.augment import background
from audioml.errors import ParamsError
from audioml.params import parse_params

from ._sounds import RATE, level_db, make_noise, make_sines, run


def write_sines(folder: Path, rate: int, **frequencies_hz: float) -> None:
    folder.mkdir(exist_ok=True)
    for name, frequency_hz in frequencies_hz.items():
        (folder / f"{name}.wav").write_bytes(encode_wav(make_sines([frequency_hz], rate, rate).numpy(), rate))


@pytest.mark.parametrize("snr_db", [-5.0, 15.0])
def test_the_noise_is_that_of_the_recordings_at_the_ratio(tmp_path: Path, snr_db: float) -> None:
    write_sines(tmp_path / "noise", 8000, hum=1000)
    audio = make_noise(6)
    params = background.Params(folder=str(tmp_path / "noise"), min_snr_db=snr_db, max_snr_db=snr_db, share=1)
    made = run(background, params, audio) - audio
    assert torch.allclose(level_db(audio) - level_db(made), torch.tensor(snr_db).double(), atol=0.1)
    power = torch.fft.rfft(made.double()).abs().square()
    assert (power[:, 998:1003].sum(dim=1) > 0.99 * power.sum(dim=1)).all()
    assert len({round(float(phase), 3) for phase in torch.fft.rfft(made)[:, 1000].angle()}) == 6


def test_padding_stays_silent(tmp_path: Path) -> None:
    write_sines(tmp_path / "noise", RATE, hum=1000)
    audio = make_noise(3)
    audio[:, -RATE // 4 :] = 0
    changed = run(background, background.Params(folder=str(tmp_path / "noise"), share=1), audio)
    assert not changed[:, -RATE // 4 :].any()
    assert ((changed != audio)[:, : -RATE // 4].float().mean(dim=1) > 0.8).all()


def test_recordings_are_drawn_evenly_and_cut(tmp_path: Path) -> None:
    write_sines(tmp_path / "noise", RATE, a=100, b=200, c=300, d=400, e=500)
    bank = background.load_bank(str(tmp_path / "noise"), 3, 0.25, RATE)
    peaks = [int(torch.fft.rfft(recording).abs().argmax()) * 4 for recording in bank]
    assert peaks == [100, 300, 500]
    assert [len(recording) for recording in bank] == [RATE // 4] * 3


def test_a_folder_is_relative_to_the_workspace(tmp_path: Path) -> None:
    raw = {"name": "x", "data": {"layout": "spoken_commands"}, "augment": [{"name": "background", "folder": "noise"}]}
    raw |= {"features": {"name": "logmel", "keep_audio": True}, "task": {"name": "classification"}}
    raw |= {"model": {"name": "rescnn"}}
    params = parse_params(raw)
    assert params.located(tmp_path).augment_sections()[0][1].folder == str(tmp_path / "noise")
    assert params.augment_sections()[0][1].folder == "noise"


def test_no_recordings_and_bad_ones_are_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"augment\.background\.folder.*there are no recordings in .*nowhere"):
        run(background, background.Params(folder=str(tmp_path / "nowhere")), make_noise(2))
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    with pytest.raises(ParamsError, match=r"broken\.wav cannot be read as audio"):
        run(background, background.Params(folder=str(tmp_path)), make_noise(2))
