import numpy as np
import pytest

from audioml.audio.decode import decode, probe
from audioml.audio.synthesize import synthesize
from audioml.datasets import spoken_commands
from audioml.datasets._spoken import SPEAKERS, VOICES
from audioml.datasets.spoken_commands import Params, read, scan
from audioml.errors import ParamsError
from audioml.params import parse_section


def params(**keys):
    return Params(layout="spoken_commands", **keys)


SMALL = {"words": ["yes", "no"], "voices": ["en-us+f1", "en-029+m2"], "takes": 2}


def test_the_whole_corpus():
    records = scan(params(), None)
    assert len(records) == 10 * 48 * 5
    assert len({r.path for r in records}) == len(records)
    assert len({r.columns["voice"] for r in records}) == 48
    assert {r.columns["label"] for r in records} == set(spoken_commands.WORDS)
    assert {r.columns["noise"] for r in records} == {"white", "pink", "brown"}


def test_a_speaker_has_one_voice_and_no_two_sound_alike():
    assert len(VOICES) == len(set(SPEAKERS)) == 48
    shapes = np.array([[log_spectrum(word, speaker) for word in ("yes", "down", "go")] for speaker in SPEAKERS])
    distance = np.sqrt(np.mean((shapes[:, None] - shapes[None]) ** 2, axis=(2, 3)))
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > 0.3


def log_spectrum(word, speaker):
    speech = synthesize(word, f"en-us+{speaker}").astype(np.float64)
    spectrum = np.abs(np.fft.rfft(speech / np.abs(speech).max(), 1 << 15))[20:12000]
    level = np.log(spectrum.reshape(-1, 20).mean(axis=1))
    return level - level.mean()


def test_a_clip_is_16_bit_wav_of_the_right_length():
    data = params(**SMALL)
    for record in scan(data, None):
        info = probe(read(data, None, record))
        assert (info.format, info.subtype, info.sample_rate, info.channels) == ("WAV", "PCM_16", 16000, 1)
        assert info.n_samples == 16000


def test_a_clip_depends_on_seed_and_name_alone():
    data, more = params(**SMALL), params(**{**SMALL, "words": ["stop", "no", "yes"], "takes": 3})
    clips = {r.path: read(data, None, r) for r in scan(data, None)}
    others = {r.path: read(more, None, r) for r in reversed(scan(more, None))}
    assert clips.items() <= others.items()
    assert len(set(clips.values())) == 8
    reseeded = params(**SMALL, seed=1)
    assert all(read(reseeded, None, r) != clips[r.path] for r in scan(reseeded, None))


def test_a_change_of_recipe_is_a_change_of_the_record():
    one, other = scan(params(**SMALL), None), scan(params(**SMALL, min_snr_db=0), None)
    more = scan(params(**{**SMALL, "takes": 3}), None)
    assert one[0].version != other[0].version
    assert one[0].version == more[0].version


def test_noise_is_at_its_ratio():
    quiet, loud = (
        params(**{**SMALL, "takes": 1}, min_snr_db=snr_db, max_snr_db=snr_db, duration_s=2.0) for snr_db in (60.0, 10.0)
    )
    clean, noisy = (decode(read(data, None, scan(data, None)[0]))[0][0] for data in (quiet, loud))
    # The draws are equal, so the two differ in noise and in their final gain alone.
    gain = float(clean @ noisy / (clean @ clean))
    speech_power = np.mean(clean[np.abs(clean) > 0.003 * np.abs(clean).max()] ** 2) * gain**2
    snr_db = 10 * np.log10(speech_power / np.mean((noisy - gain * clean) ** 2))
    assert snr_db == pytest.approx(10, abs=2)


def test_a_long_word_is_not_cut():
    data = params(words=["yes", "incomprehensibilities"], voices=["en-us"], takes=1)
    assert decode(read(data, None, scan(data, None)[0]))[0].shape[1] > 16000


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"words": [True, False]}, "quotes"),
        ({"words": ["yes"]}, "words"),
        ({"min_snr_db": 40}, "above max_snr_db"),
        ({"source": "/somewhere"}, "source"),
        ({"voice": ["en-us"]}, "Did you mean 'voices'"),
    ],
)
def test_bad_params(keys, says):
    with pytest.raises(ParamsError, match=says):
        parse_section(Params, {"layout": "spoken_commands", **keys}, "data")


def test_unknown_and_repeated_voices():
    with pytest.raises(ParamsError, match="Did you mean 'antonio'"):
        scan(params(voices=["en-us+antonia"]), None)
    with pytest.raises(ParamsError, match="more than once"):
        scan(params(words=["yes", "yes"]), None)
