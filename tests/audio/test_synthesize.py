import itertools
import subprocess
import sys

import numpy as np
import pytest

from audioml.audio.synthesize import SAMPLE_RATE, speak, synthesize, text_to_phonemes, voice_variants
from audioml.errors import SourceError


def median_pitch(speech: np.ndarray) -> float:
    """In Hz, by the highest peak of the autocorrelation between 50 and 500 Hz, over loud frames of 40 ms."""
    frames = np.lib.stride_tricks.sliding_window_view(speech.astype(float), int(0.04 * SAMPLE_RATE))[::256]
    loud = frames[frames.std(axis=1) > 0.3 * frames.std(axis=1).max()]
    spectra = np.fft.rfft(loud, 2 * frames.shape[1])
    correlations = np.fft.irfft(np.abs(spectra) ** 2)
    shortest = SAMPLE_RATE // 500
    lags = shortest + correlations[:, shortest : SAMPLE_RATE // 50].argmax(axis=1)
    return float(np.median(SAMPLE_RATE / lags))


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
        pitches.append(median_pitch(synthesize("no no no", pitch=pitch)))
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


def test_words_and_phonemes_have_times():
    text = "The girl, of the north, can't wait."
    speech = speak(text, "en-us+f3")
    np.testing.assert_array_equal(speech.samples, synthesize(text, "en-us+f3"))
    assert [word.name for word in speech.words] == ["The", "girl", "of", "the", "north", "can't", "wait"]
    assert "".join(phoneme.name for phoneme in speech.phonemes).startswith("ðəɡˈɜːl")
    for spans in (speech.words, speech.phonemes):
        # A phoneme that melts into the one before takes no time of its own.
        assert all(0 <= span.onset_s <= span.offset_s <= len(speech.samples) / SAMPLE_RATE for span in spans)
        assert all(first.offset_s <= second.onset_s for first, second in itertools.pairwise(spans))
    # It is quiet in the pause behind the comma, and loud in the word before.
    girl, of = speech.words[1:3]
    assert of.onset_s - girl.offset_s > 0.05
    loudness = [
        np.abs(speech.samples[int(start * SAMPLE_RATE) : int(stop * SAMPLE_RATE)].astype(float)).mean()
        for start, stop in ((girl.onset_s, girl.offset_s), (girl.offset_s + 0.02, of.onset_s - 0.02))
    ]
    assert loudness[0] > 10 * loudness[1]


def test_nothing_to_say_has_no_words():
    speech = speak("...")
    assert speech.words == speech.phonemes == []
