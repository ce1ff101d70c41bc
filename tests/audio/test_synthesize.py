import subprocess
import sys

import librosa
import numpy as np
import pytest

from audioml.audio.synthesize import SAMPLE_RATE, synthesize, text_to_phonemes, voice_variants
from audioml.errors import SourceError


def test_speaks():
    speech = synthesize("seven", "en-us+f3")
    assert speech.dtype == np.int16
    assert 0.2 < len(speech) / SAMPLE_RATE < 1.5
    assert np.abs(speech).max() > 3000


def test_the_same_text_sounds_the_same_whatever_came_before():
    first = [synthesize(word, voice) for word, voice in (("stop", "en-us+f3"), ("go", "en-029+whisper"))]
    for word in ("left", "right"):
        synthesize(word, "en-us+m3", rate_wpm=250, pitch=80)
    again = [synthesize(word, voice) for word, voice in (("go", "en-029+whisper"), ("stop", "en-us+f3"))]
    np.testing.assert_array_equal(first[0], again[1])
    np.testing.assert_array_equal(first[1], again[0])


def test_another_process_says_the_same():
    code = (
        "import hashlib; from audioml.audio.synthesize import synthesize;"
        "print(hashlib.sha256(synthesize('yes', 'en-us+f2', 160, 60).tobytes()).hexdigest())"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)]
    assert runs[0] == runs[1]


def test_rate_and_pitch():
    assert len(synthesize("hello world", rate_wpm=300)) < 0.8 * len(synthesize("hello world", rate_wpm=120))
    pitches = []
    for pitch in (10, 90):
        speech = synthesize("no no no", pitch=pitch).astype(np.float32) / 32768
        pitches.append(np.median(librosa.yin(speech, fmin=50, fmax=500, sr=SAMPLE_RATE)))
    assert pitches[1] > 1.3 * pitches[0]


def test_phonemes_are_ipa():
    assert text_to_phonemes("seven") == "sˈɛvən"
    assert "həlˈoʊ wˈɜːld" in text_to_phonemes("hello world. Next.")
    assert text_to_phonemes("dance", "en-us") != text_to_phonemes("dance", "en-gb-x-rp")


def test_there_are_enough_voices():
    assert len(voice_variants()) > 40
    assert {"f1", "m1"} <= set(voice_variants())


@pytest.mark.parametrize("voice", ["xx", "en-us+nobody"])
def test_an_unknown_voice(voice):
    with pytest.raises(SourceError, match="has no voice"):
        synthesize("hello", voice)


def test_without_espeak_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(SourceError, match=r"audioml\[demo\]"):
        synthesize("hello")
